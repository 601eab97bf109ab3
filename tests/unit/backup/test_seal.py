from __future__ import annotations

import hashlib
import io

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.backup.seal import Sealed, Sealer
from etcdguard.crypto.age import Decryptor
from etcdguard.crypto.recipients import Recipient, generate_identity
from etcdguard.errors import Corruption
from etcdguard.model import SnapshotFacts
from tests.support.backups import IDENTITY, database
from tests.support.bolt_writer import Shape, revision_key, with_trailer, write_database

SECOND = generate_identity()
DATABASE = database(40)
SNAPSHOT = with_trailer(DATABASE)


def seal(
    data: bytes,
    recipients: tuple[Recipient, ...] = (IDENTITY.recipient,),
    *,
    level: int = 1,
    piece: int = 5000,
    threads: int = 0,
) -> tuple[Sealed, bytes]:
    out = io.BytesIO()
    sealer = Sealer(out, recipients, level, compression_threads=threads)
    for start in range(0, len(data), piece):
        sealer.update(data[start : start + piece])
    return sealer.finish(), out.getvalue()


def test_the_facts_are_those_of_the_snapshot() -> None:
    meta = {
        b"consistent_index": (77).to_bytes(8, "big"),
        b"finishedCompactRev": revision_key(9),
        b"storageVersion": b"3.6.0",
    }
    elements = [(revision_key(number), b"value") for number in range(10, 30)]
    data = write_database(elements, meta, Shape())
    sealed, _ = seal(with_trailer(data))
    assert sealed.facts == SnapshotFacts(
        revision=29,
        compact_revision=9,
        consistent_index=77,
        total_keys=20,
        db_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    assert sealed.pages.facts.storage_version == "3.6.0"


@settings(deadline=None, max_examples=20)
@given(piece=st.integers(500, 200_000), level=st.integers(1, 5), threads=st.integers(0, 2))
def test_what_is_stored_opens_to_what_was_streamed(piece: int, level: int, threads: int) -> None:
    sealed, stored = seal(SNAPSHOT, level=level, piece=piece, threads=threads)
    assert (sealed.stored_bytes, sealed.stored_sha256) == (len(stored), hashlib.sha256(stored).hexdigest())
    decryptor = Decryptor([IDENTITY])
    compressed = decryptor.update(stored) + decryptor.finish()
    assert zstandard.ZstdDecompressor().decompressobj().decompress(compressed) == SNAPSHOT
    assert zstandard.get_frame_parameters(compressed).has_checksum


def test_every_recipient_can_open_it_and_nobody_reads_it_as_it_stands() -> None:
    text = b"a secret that compresses to itself: 7d0a3e5c"
    data = write_database([(revision_key(2), text)], {b"consistent_index": bytes(8)})
    _, stored = seal(with_trailer(data), (IDENTITY.recipient, SECOND.recipient))
    assert text not in stored
    for identity in (IDENTITY, SECOND):
        decryptor = Decryptor([identity])
        plain = (
            zstandard.ZstdDecompressor()
            .decompressobj()
            .decompress(decryptor.update(stored) + decryptor.finish())
        )
        assert text in plain


def test_without_recipients_the_stored_bytes_are_the_compressed_ones() -> None:
    sealed, stored = seal(SNAPSHOT, ())
    assert zstandard.ZstdDecompressor().decompressobj().decompress(stored) == SNAPSHOT
    assert sealed.stored_bytes == len(stored)


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 512, 4096, 4096 + 32, len(SNAPSHOT) - 10, len(SNAPSHOT)])
def test_a_stream_that_ended_early_is_refused(cut: int) -> None:
    with pytest.raises(Corruption):
        seal(SNAPSHOT[: len(SNAPSHOT) - cut])


@pytest.mark.parametrize(
    "at", [0, 20, 5000, len(DATABASE) // 2, len(DATABASE) - 1, len(DATABASE), len(SNAPSHOT) - 1]
)
def test_a_changed_byte_is_refused(at: int) -> None:
    damaged = bytearray(SNAPSHOT)
    damaged[at] ^= 0x10
    with pytest.raises(Corruption):
        seal(bytes(damaged))


def test_a_sound_trailer_does_not_make_a_database() -> None:
    with pytest.raises(Corruption):
        seal(with_trailer(bytes(8192)))
    with pytest.raises(Corruption, match="no key and meta buckets"):
        seal(with_trailer(_without_buckets()))


def _without_buckets() -> bytes:
    """A bbolt file, but not etcd's."""
    return database(5).replace(b"key", b"kex").replace(b"meta", b"mete")
