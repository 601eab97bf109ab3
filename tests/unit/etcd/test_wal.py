from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import Corruption, EtcdGuardError
from etcdguard.etcd.wal import WalMetadata, first_segment, parse_wal_head, read_wal_metadata

# Written by etcd 3.5 for the member "default" at http://localhost:2380 with the token etcd-cluster: the first
# segment, and one in the middle of the log, where the checksum continues that of the segment before.
FIRST = bytes.fromhex(
    "0400000000000084 0804100000000000"
    "2000000000000000 080110bb81c7fc05 1a1608cdd2918bd2 b881cf8e0110b298 eaf1948386fccd01"
    "0e00000000000082 0805"
)
LATER = bytes.fromhex(
    "0800000000000000 080410bab8dd8b0a"
    "1f00000000000081 0801108691d1381a 1608cdd2918bd2b8 81cf8e0110b298ea f1948386fccd0100"
    "1a00000000000086 0803"
)
IDS = WalMetadata(member_id="8e9e05c52164694d", cluster_id="cdf818194e3a8c32")


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def frame(record: bytes) -> bytes:
    padding = -len(record) % 8
    word = len(record) | ((0x80 | padding) << 56 if padding else 0)
    return struct.pack("<Q", word) + record + bytes(padding)


def record(kind: int, crc: int, data: bytes | None = None) -> bytes:
    body = b"\x08" + varint(kind) + b"\x10" + varint(crc)
    return frame(body if data is None else body + b"\x1a" + varint(len(data)) + data)


CRC_RECORD = record(4, 0)


@pytest.mark.parametrize("head", [FIRST, LATER], ids=["first", "later"])
def test_real_segments_give_their_ids(head: bytes) -> None:
    assert parse_wal_head(head) == IDS


@pytest.mark.parametrize("size", range(0, 56))
def test_a_head_cut_short_is_refused(size: int) -> None:
    with pytest.raises(Corruption):
        parse_wal_head(FIRST[:size])


@pytest.mark.parametrize("position", range(0, 56))
def test_no_flipped_bit_goes_unnoticed(position: int) -> None:
    for bit in range(8):
        damaged = bytearray(FIRST)
        damaged[position] ^= 1 << bit
        with pytest.raises(Corruption):
            parse_wal_head(bytes(damaged))


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (bytes(4096), "length is impossible"),
        (struct.pack("<Q", 1 << 40) + bytes(64), "length is impossible"),
        (FIRST[16:], "does not begin with a checksum record"),
        (CRC_RECORD + CRC_RECORD, "second record is not the metadata"),
        (CRC_RECORD + record(1, 1, b"\x08\x01\x10\x02"), "does not match its checksum"),
        (CRC_RECORD + record(1, 0), "an id is missing"),
        (CRC_RECORD + frame(b"\x08\x01\x10\x00\x22\x01a"), "unknown field 4"),
        (CRC_RECORD + frame(b"\x08\x01\x10\x00\x1a\x7fa"), "longer than its message"),
    ],
)
def test_damage_is_named(head: bytes, why: str) -> None:
    with pytest.raises(Corruption, match=why) as raised:
        parse_wal_head(head)
    assert raised.value.hint


@given(st.binary(max_size=256))
def test_arbitrary_bytes_are_only_ever_corruption(head: bytes) -> None:
    with pytest.raises(Corruption):
        parse_wal_head(head)


@given(st.binary(max_size=64))
def test_arbitrary_records_are_only_ever_corruption(body: bytes) -> None:
    with pytest.raises(Corruption):
        parse_wal_head(CRC_RECORD + frame(body))


@given(
    st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=32)
)
def test_what_follows_the_metadata_does_not_matter(member: int, cluster: int, seed: int, rest: bytes) -> None:
    data = b"\x08" + varint(member) + b"\x10" + varint(cluster)
    head = record(4, seed) + record(1, slow_crc32c(data, seed), data) + rest
    assert parse_wal_head(head) == WalMetadata(format(member, "x"), format(cluster, "x"))


def slow_crc32c(data: bytes, previous: int) -> int:
    """The definition, bit by bit."""
    crc = previous ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_the_oldest_segment_of_a_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "0000000000000001-0000000000000045.wal").write_bytes(b"not looked at")
    (tmp_path / "0000000000000000-0000000000000000.wal").write_bytes(FIRST + bytes(64 * 1024))
    (tmp_path / "0.tmp").write_bytes(b"preallocated by etcd")
    assert read_wal_metadata(tmp_path) == IDS


def test_a_directory_without_segments_is_corruption(tmp_path: Path) -> None:
    (tmp_path / "0.tmp").touch()
    with pytest.raises(Corruption, match="no write-ahead log segment"):
        read_wal_metadata(tmp_path)


def test_a_directory_that_cannot_be_read_is_not_called_corrupt(tmp_path: Path) -> None:
    with pytest.raises(EtcdGuardError, match="No such file") as raised:
        read_wal_metadata(tmp_path / "absent")
    assert not isinstance(raised.value, Corruption)


def test_a_log_begins_as_etcd_begins_it() -> None:
    third = bytes.fromhex("0e00000000000082 08051094bbc7ed0e1a04080010000000")

    assert first_segment(IDS) == FIRST[:56] + third  # the same etcd wrote this too


@given(st.integers(1, 2**64 - 1), st.integers(1, 2**64 - 1))
def test_what_is_begun_can_be_read(member: int, cluster: int) -> None:
    ids = WalMetadata(member_id=format(member, "x"), cluster_id=format(cluster, "x"))

    assert parse_wal_head(first_segment(ids)) == ids
