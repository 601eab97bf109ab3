from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Generator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import Corruption, EtcdUnreachable, SnapshotFailed
from etcdguard.etcd.source import BlobStream, StreamLimits
from etcdguard.etcd.stream import TRAILER_BYTES, SnapshotStream, TrailerCheck, parse_frame

DATABASE = bytes(range(256)) * 512
SNAPSHOT = DATABASE + hashlib.sha256(DATABASE).digest()
BLOB = 32 * 1024


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def frame(blob: bytes, remaining: int = 0, version: bytes = b"") -> bytes:
    out = b"\x10" + varint(remaining) if remaining else b""
    out += b"\x1a" + varint(len(blob)) + blob if blob else b""
    return out + (b"\x22" + varint(len(version)) + version if version else b"")


def frames_of(snapshot: bytes, *, announced: int | None = None) -> list[bytes]:
    """As etcd cuts them: the database in blobs that count down, then the trailer."""
    database, trailer = snapshot[:-TRAILER_BYTES], snapshot[-TRAILER_BYTES:]
    total = len(database) if announced is None else announced
    cuts = range(0, len(database), BLOB)
    blobs = [database[start : start + BLOB] for start in cuts]
    counts = [max(total - min(start + BLOB, len(database)), 0) for start in cuts]
    return [*map(frame, blobs, counts), frame(trailer)]


Patience = Callable[[], float]


def stream(
    messages: list[bytes] | Callable[[Patience], Generator[bytes, None, None]],
    limits: StreamLimits | None = None,
) -> SnapshotStream:
    def given(patience: Patience) -> Generator[bytes, None, None]:
        assert isinstance(messages, list)
        for message in messages:
            patience()
            yield message

    frames = messages if callable(messages) else given
    return SnapshotStream(frames, "http://etcd:2379", limits or StreamLimits())


def read(opened: SnapshotStream) -> bytes:
    with opened as entered:
        return b"".join(entered)


def test_a_sound_stream_arrives_whole_and_in_large_pieces() -> None:
    database = bytes(5 * 1024 * 1024)
    snapshot = database + hashlib.sha256(database).digest()
    opened: BlobStream = stream(frames_of(snapshot))
    before = opened.announced_bytes
    with opened:
        pieces = list(opened)
    assert b"".join(pieces) == snapshot
    assert (before, opened.announced_bytes) == (None, len(snapshot))
    assert all(len(piece) >= 1 << 20 for piece in pieces[:-1])


def test_a_database_smaller_than_one_message_is_no_special_case() -> None:
    database = bytes(1024)
    snapshot = database + hashlib.sha256(database).digest()
    assert read(stream(frames_of(snapshot))) == snapshot


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "ended early"),
        (frames_of(SNAPSHOT)[:-1], "ended early, 131104 bytes were announced"),
        (frames_of(SNAPSHOT)[:2], r"ended early.*\(after 65536 bytes\)"),
        (frames_of(SNAPSHOT, announced=len(DATABASE) + 512), "ended early"),
        (frames_of(SNAPSHOT, announced=len(DATABASE) - 512), "more than the announced"),
        ([*frames_of(SNAPSHOT), frame(b"x")], "more than the announced"),
        ([frame(b"", 4096)] * 1000, "messages are empty"),
        ([frame(b"a" * 512, 2**63)], "the limit is"),
        ([b"\x1a\x05abc"], "malformed: field longer than its message"),
    ],
)
def test_a_stream_that_is_not_what_it_announced_is_refused(messages: list[bytes], why: str) -> None:
    with pytest.raises(SnapshotFailed, match=why) as raised:
        read(stream(messages))
    assert raised.value.message.startswith("http://etcd:2379: the snapshot failed: ")
    assert raised.value.hint
    assert "\n" not in raised.value.message


def test_the_size_limit_counts_the_trailer() -> None:
    exact = StreamLimits(max_bytes=len(SNAPSHOT))
    assert read(stream(frames_of(SNAPSHOT), exact)) == SNAPSHOT
    with pytest.raises(SnapshotFailed, match="131104 bytes were announced, the limit is 131103"):
        read(stream(frames_of(SNAPSHOT), StreamLimits(max_bytes=len(SNAPSHOT) - 1)))


def test_a_silent_stream_stalls() -> None:
    waits = []

    def silent(patience: Patience) -> Generator[bytes, None, None]:
        yield frames_of(SNAPSHOT)[0]
        while True:
            waits.append(patience())
            time.sleep(waits[-1])

    started = time.monotonic()
    with pytest.raises(SnapshotFailed, match=r"stalled: no data for 1 s \(after 32768 bytes\)"):
        read(stream(silent, StreamLimits(stall_timeout=1)))
    assert 1 <= time.monotonic() - started < 20
    assert 0.5 < waits[0] <= 1


def test_the_deadline_holds_although_data_keeps_coming() -> None:
    def trickle(patience: Patience) -> Generator[bytes, None, None]:
        while True:
            assert patience() <= 0.3
            time.sleep(0.01)
            yield frame(b"x" * 512, 2**30)

    started = time.monotonic()
    with pytest.raises(SnapshotFailed, match=r"not complete after 0.3 s"):
        read(stream(trickle, StreamLimits(stall_timeout=60, deadline=0.3)))
    assert 0.3 <= time.monotonic() - started < 30


def test_the_deadline_holds_although_data_is_waiting() -> None:
    with stream(frames_of(SNAPSHOT), StreamLimits(deadline=0.1)) as opened:
        time.sleep(0.2)
        with pytest.raises(SnapshotFailed, match="not complete"):
            list(opened)


def test_empty_messages_do_not_count_as_progress() -> None:
    def empty(patience: Patience) -> Generator[bytes, None, None]:
        while True:
            patience()
            time.sleep(0.05)
            yield frame(b"", 4096)

    with pytest.raises(SnapshotFailed, match="stalled"):
        read(stream(empty, StreamLimits(stall_timeout=0.2)))


def test_a_trickle_below_the_piece_size_is_no_stall() -> None:
    """For seven seconds no piece is full."""
    database = bytes(13 * BLOB)
    snapshot = database + hashlib.sha256(database).digest()

    def trickle(patience: Patience) -> Generator[bytes, None, None]:
        for message in frames_of(snapshot):
            patience()
            time.sleep(0.5)
            yield message

    assert read(stream(trickle, StreamLimits(stall_timeout=6))) == snapshot


def test_a_slow_consumer_is_no_stall() -> None:
    database = bytes(3 * 1024 * 1024)
    with stream(frames_of(database + bytes(32)), StreamLimits(stall_timeout=0.5)) as opened:
        total = 0
        for piece in opened:
            time.sleep(0.6)
            total += len(piece)
    assert total == len(database) + TRAILER_BYTES


def test_a_rate_holds_the_reader_back_and_is_no_stall() -> None:
    """Half a MiB a second: the second MiB waits two seconds for its turn."""
    database = bytes(2 * 1024 * 1024)
    snapshot = database + hashlib.sha256(database).digest()
    began = time.monotonic()
    assert read(stream(frames_of(snapshot), StreamLimits(stall_timeout=1, max_rate=2**19))) == snapshot
    assert time.monotonic() - began >= 1.9


@pytest.mark.parametrize("received", [0, 2])
def test_an_error_before_the_first_byte_stays_itself_and_later_means_a_failed_snapshot(received: int) -> None:
    def breaking(_: Patience) -> Generator[bytes, None, None]:
        yield from frames_of(SNAPSHOT)[:received]
        raise EtcdUnreachable("http://etcd:2379: connection refused", hint="start it")

    with pytest.raises(EtcdUnreachable) as raised:
        read(stream(breaking))
    if received:
        assert type(raised.value) is SnapshotFailed
        assert raised.value.message == (
            "http://etcd:2379: the snapshot failed: connection refused (after 65536 bytes)"
        )
    else:
        assert raised.value.message == "http://etcd:2379: connection refused"


def test_leaving_early_ends_the_call() -> None:
    ended = []

    def endless(_: Patience) -> Generator[bytes, None, None]:
        try:
            while True:
                yield frame(bytes(BLOB), 2**30)
        finally:
            ended.append(True)

    with stream(endless) as opened:
        pieces = iter(opened)
        next(pieces)
        assert ended == []
    assert ended == [True]


@given(st.lists(st.integers(0, len(SNAPSHOT)), max_size=20), st.booleans())
def test_the_trailer_holds_however_the_bytes_are_cut(cuts: list[int], views: bool) -> None:
    check = TrailerCheck()
    borders = [0, *sorted(cuts), len(SNAPSHOT)]
    for start, end in itertools.pairwise(borders):
        piece = SNAPSHOT[start:end]
        check.update(memoryview(piece) if views else piece)
    assert check.finish() == (len(DATABASE), hashlib.sha256(DATABASE).hexdigest())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not a whole etcd snapshot"),
        (SNAPSHOT[-TRAILER_BYTES:], "not a whole etcd snapshot"),
        (DATABASE, "not a whole etcd snapshot"),
        (SNAPSHOT[:-1], "not a whole etcd snapshot"),
        (SNAPSHOT[512:], "does not match its sha256 trailer"),
        (DATABASE + bytes(32), "does not match its sha256 trailer"),
    ],
)
def test_a_trailer_that_does_not_fit_is_corruption(data: bytes, why: str) -> None:
    check = TrailerCheck()
    check.update(data)
    with pytest.raises(Corruption, match=why):
        check.finish()


def test_fields_of_other_versions_are_passed_over() -> None:
    header = b"\x0a\x04\x08\x01\x10\x02"
    fixed = b"\x29" + bytes(8) + b"\x35" + bytes(4)
    remaining, blob = parse_frame(header + frame(b"data", 7, b"3.6.0") + fixed)
    assert (remaining, bytes(blob)) == (7, b"data")
    assert parse_frame(b"") == (0, memoryview(b""))


@pytest.mark.parametrize(
    "message",
    [
        b"\x1a\x01a\x1a\x01b",  # two blobs
        b"\x10\x01\x10\x02",  # two counts
        b"\x12\x01a",  # the count as bytes
        b"\x18\x01",  # the blob as a number
        b"\x1b",  # a group
        b"\x02\x00",  # field number 0
        b"\x10",  # a number cut short
        b"\x10" + b"\xff" * 9 + b"\x7f",  # a number over 64 bits
        b"\x10" + b"\xff" * 11,
        b"\x1a\x05abcd",
        b"\x29\x00",
    ],
)
def test_malformed_messages_are_refused(message: bytes) -> None:
    with pytest.raises(ValueError, match=r"number|field|wire|blob|remaining"):
        parse_frame(message)


@given(st.binary(max_size=64))
def test_any_message_is_parsed_or_refused(message: bytes) -> None:
    try:
        remaining, blob = parse_frame(message)
    except ValueError:
        return
    assert 0 <= remaining < 2**64
    assert bytes(blob) in message


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1), st.binary(max_size=10))
def test_messages_round_trip(blob: bytes, remaining: int, version: bytes) -> None:
    assert parse_frame(frame(blob, remaining, version)) == (remaining, memoryview(blob))
