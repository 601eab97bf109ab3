"""From a manifest to the plain snapshot, and every way in which stored bytes can fail to be that."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from etcdguard.crypto.age import Decryptor, Encryptor
from etcdguard.crypto.recipients import ScryptIdentity, ScryptRecipient, generate_identity
from etcdguard.errors import Corruption, ObjectNotFound, StoreUnavailable, WrongKey
from etcdguard.fetch import open_plain
from etcdguard.model import Manifest, ObjectEntry
from etcdguard.storage.base import ObjectStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import IDENTITY, Node, catalog_of, database, plaintext
from tests.support.bolt_writer import with_trailer
from tests.support.faulty_store import Fault, FaultyStore, Rule

REVISION = 60
SNAPSHOT = with_trailer(database(REVISION))
PIECE = 1024 * 1024


class Stored:
    """A real backup in a store, and ways to put something else in its place."""

    def __init__(self, folder: Path, *, encrypted: bool = True) -> None:
        self.store = MemoryStore("m")
        self.node = Node(folder / "spool")
        if not encrypted:
            self.node.options = {"recipients": []}
        self.manifest = self.backup(REVISION)
        self.body = b"".join(self.store.get(self.key))

    def backup(self, revision: int) -> Manifest:
        manifest = self.node.backup(revision, self.store).delivery.manifest
        assert manifest is not None
        return manifest

    @property
    def key(self) -> str:
        return catalog_of(self.store).layout.absolute(self.manifest.objects[0].key)

    def replace(self, body: bytes, *, told: bool = False, **changes: Any) -> None:
        """Store other bytes; ``told`` makes the manifest say so, as only its writer could."""
        self.store.put(self.key, body)
        if told:
            entry = ObjectEntry(
                key=self.manifest.objects[0].key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest()
            )
            self.manifest = self.manifest.model_copy(update={"objects": (entry,), **changes})

    def read(self, *identities: Any, hashing: bool = True) -> Iterator[bytes]:
        layout = catalog_of(self.store).layout
        return open_plain(self.store, layout, self.manifest, identities or [IDENTITY], hashing=hashing)

    def refused(self, match: str | None = None, *, hashing: bool = True) -> None:
        """Reading ends in Corruption."""
        with pytest.raises(Corruption, match=match) as failure:
            list(self.read(hashing=hashing))
        assert failure.value.exit_code == 13
        assert failure.value.hint


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


@pytest.fixture
def plain(tmp_path: Path) -> Stored:
    return Stored(tmp_path, encrypted=False)


def encrypted(data: bytes) -> bytes:
    encryptor = Encryptor([IDENTITY.recipient])
    return encryptor.start() + encryptor.update(data) + encryptor.finish()


def compressed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


# -- what is sound -----------------------------------------------------------------------------------------


def test_the_snapshot_with_its_trailer_comes_back(stored: Stored) -> None:
    assert b"".join(stored.read()) == SNAPSHOT


def test_unencrypted(plain: Stored) -> None:
    assert b"".join(plain.read()) == SNAPSHOT


def test_one_of_several_identities_is_enough(stored: Stored) -> None:
    assert b"".join(stored.read(generate_identity(), IDENTITY)) == SNAPSHOT


def test_a_passphrase(tmp_path: Path) -> None:
    node = Node(tmp_path / "spool", options={"recipients": [ScryptRecipient("correct horse", log_n=10)]})
    store = MemoryStore("m")
    manifest = node.backup(REVISION, store).delivery.manifest
    assert manifest is not None
    layout = catalog_of(store).layout
    assert b"".join(open_plain(store, layout, manifest, [ScryptIdentity("correct horse")])) == SNAPSHOT
    with pytest.raises(WrongKey):
        list(open_plain(store, layout, manifest, [ScryptIdentity("battery staple")]))


def test_an_object_in_several_parts(stored: Stored) -> None:
    """A later version may store one backup as many objects; readers of this one join them."""
    third = len(stored.body) // 3
    entries = []
    for number, start in enumerate((0, third, 2 * third)):
        part = stored.body[start : start + third] if number < 2 else stored.body[start:]
        key = f"backups/{stored.manifest.id}/part-{number}"
        stored.store.put(f"prod/{key}", part)
        entries.append(ObjectEntry(key=key, bytes=len(part), sha256=hashlib.sha256(part).hexdigest()))
    stored.manifest = stored.manifest.model_copy(update={"objects": tuple(entries)})
    assert b"".join(stored.read()) == SNAPSHOT
    stored.manifest = stored.manifest.model_copy(update={"objects": tuple(reversed(entries))})
    stored.refused()


# -- keys --------------------------------------------------------------------------------------------------


def test_the_wrong_identity(stored: Stored) -> None:
    with pytest.raises(WrongKey) as failure:
        list(stored.read(generate_identity()))
    assert failure.value.exit_code == 12


def test_no_identity(stored: Stored) -> None:
    with pytest.raises(WrongKey, match="no identity is configured") as failure:
        list(open_plain(stored.store, catalog_of(stored.store).layout, stored.manifest, []))
    assert "--identity" in failure.value.hint


# -- what changed after it was stored ----------------------------------------------------------------------


def flips(body: bytes) -> list[int]:
    """Every byte of the age header, and some of everything behind it."""
    return [*range(0, 250, 7), *range(250, len(body), 1500), len(body) - 1]


def test_a_flipped_bit_anywhere(stored: Stored) -> None:
    for at in flips(stored.body):
        damaged = bytearray(stored.body)
        damaged[at] ^= 0x01
        stored.replace(bytes(damaged))
        with pytest.raises((Corruption, WrongKey)):
            list(stored.read())


def test_a_flipped_bit_anywhere_without_encryption(plain: Stored) -> None:
    for at in flips(plain.body):
        damaged = bytearray(plain.body)
        damaged[at] ^= 0x01
        plain.replace(bytes(damaged))
        plain.refused()


@pytest.mark.parametrize("kept", [0, 1, 100, 200, 5000, -16, -1])
def test_cut_short(stored: Stored, kept: int) -> None:
    stored.replace(stored.body[:kept] if kept >= 0 else stored.body[: len(stored.body) + kept])
    stored.refused()


@pytest.mark.parametrize("garbage", [b"\0", b"garbage", bytes(100_000)])
def test_bytes_behind_the_end(stored: Stored, garbage: bytes) -> None:
    stored.replace(stored.body + garbage)
    stored.refused("is not what was stored|last chunk|after|payload|authentic")


@pytest.mark.parametrize("garbage", [b"\0", b"garbage", bytes(100_000)])
def test_bytes_behind_the_end_without_encryption(plain: Stored, garbage: bytes) -> None:
    plain.replace(plain.body + garbage)
    plain.refused()


def test_swapped_with_another_backup_of_ours(stored: Stored) -> None:
    other = stored.backup(REVISION + 1)
    stored.replace(b"".join(stored.store.get(catalog_of(stored.store).layout.absolute(other.objects[0].key))))
    stored.refused()


def test_the_same_snapshot_encrypted_anew(stored: Stored) -> None:
    """It would restore well, but nobody signed it."""
    decryptor = Decryptor([IDENTITY])
    body = encrypted(decryptor.update(stored.body) + decryptor.finish())
    assert len(body) == len(stored.body)
    stored.replace(body)
    stored.refused("is not what was stored")


def test_a_missing_object_is_not_an_empty_one(stored: Stored) -> None:
    stored.store.delete(stored.key)
    with pytest.raises(ObjectNotFound):
        list(stored.read())


def test_a_store_that_breaks_off_is_not_a_short_object(stored: Stored) -> None:
    faulty: ObjectStore = FaultyStore(stored.store, [Rule(Fault.CUT_SHORT, "get")])
    with pytest.raises(StoreUnavailable):
        list(open_plain(faulty, catalog_of(stored.store).layout, stored.manifest, [IDENTITY]))


# -- what even its writer got wrong, or who could sign lied about ------------------------------------------


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SNAPSHOT, "does not decompress"),
        (lambda: b"", "not a whole etcd snapshot"),
        (lambda: compressed(SNAPSHOT)[:-8], "not a whole|trailer"),
        (lambda: compressed(SNAPSHOT)[:100], "not a whole|trailer"),
        (lambda: compressed(SNAPSHOT) + b"garbage behind", "does not decompress"),
        (lambda: compressed(SNAPSHOT) + bytes(300_000), "does not decompress|goes on after"),
        (lambda: compressed(SNAPSHOT) + compressed(SNAPSHOT), "expands beyond"),
        (lambda: compressed(SNAPSHOT + b"\0"), "expands beyond"),
        (lambda: compressed(SNAPSHOT[:-1]), "not a whole"),
        (lambda: compressed(SNAPSHOT[:-32]), "trailer"),
        (lambda: compressed(with_trailer(database(REVISION - 1))), "another snapshot"),
        (lambda: compressed(SNAPSHOT[:100] + b"\1" + SNAPSHOT[101:]), "does not match its sha256 trailer"),
        (lambda: b"\x28\xb5\x2f\xfd" + os.urandom(64), "decompress|not a whole"),
    ],
)
@pytest.mark.parametrize("sealed", [True, False], ids=["encrypted", "plain"])
def test_what_is_inside_is_proven_too(
    tmp_path: Path, make: Callable[[], bytes], match: str, sealed: bool
) -> None:
    stored = Stored(tmp_path, encrypted=sealed)
    body = make()
    stored.replace(encrypted(body) if sealed else body, told=True)
    stored.refused(match)


def test_without_hashing_all_but_the_database_itself_is_proven(stored: Stored) -> None:
    flipped = SNAPSHOT[:100] + b"\1" + SNAPSHOT[101:]
    stored.replace(encrypted(compressed(flipped)), told=True)
    assert b"".join(stored.read(hashing=False)) == flipped
    for other in (SNAPSHOT[:-1], SNAPSHOT[:-32], with_trailer(database(REVISION - 1)), SNAPSHOT + b"\0"):
        stored.replace(encrypted(compressed(other)), told=True)
        stored.refused(hashing=False)
    stored.replace(encrypted(compressed(SNAPSHOT))[:-1])
    stored.refused("is not what was stored", hashing=False)


def test_a_manifest_that_names_another_digest(stored: Stored) -> None:
    facts = stored.manifest.snapshot.model_copy(update={"sha256": "0" * 64})
    stored.manifest = stored.manifest.model_copy(update={"snapshot": facts})
    stored.refused("holds another snapshot than its manifest says")


def test_a_manifest_that_names_a_larger_database(stored: Stored) -> None:
    facts = stored.manifest.snapshot
    facts = facts.model_copy(update={"db_bytes": facts.db_bytes + 4096})
    stored.manifest = stored.manifest.model_copy(update={"snapshot": facts})
    stored.refused("holds another snapshot than its manifest says")


# -- bombs -------------------------------------------------------------------------------------------------


def zeros(size: int) -> bytes:
    """That many zeros, compressed some ten thousand times."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    parts = [compressor.compress(bytes(PIECE)) for _ in range(size // PIECE)]
    parts.append(compressor.compress(bytes(size % PIECE)))
    return b"".join([*parts, compressor.flush()])


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("sealed", [True, False], ids=["encrypted", "plain"])
def test_a_bomb_is_stopped_at_the_size_the_manifest_names(tmp_path: Path, sealed: bool) -> None:
    stored = Stored(tmp_path, encrypted=sealed)
    bomb = zeros(256 * PIECE)
    assert len(bomb) < 100_000
    stored.replace(encrypted(bomb) if sealed else bomb, told=True)
    sizes: list[int] = []
    with pytest.raises(Corruption, match="expands beyond"):
        sizes.extend(len(piece) for piece in stored.read())
    assert sum(sizes) <= len(SNAPSHOT)


def test_a_bomb_the_manifest_agrees_with_costs_no_memory(stored: Stored) -> None:
    size = 256 * PIECE + 32
    facts = stored.manifest.snapshot.model_copy(update={"db_bytes": size - 32})
    stored.replace(encrypted(zeros(size)), told=True, snapshot=facts)
    sizes: list[int] = []
    memory = [resident()]

    def watch(piece: bytes) -> int:
        memory.append(resident())
        return len(piece)

    with pytest.raises(Corruption, match="does not match its sha256 trailer"):
        sizes.extend(watch(piece) for piece in stored.read())
    assert sum(sizes) == size
    assert max(sizes) <= PIECE
    assert max(memory) - memory[0] < 48 * PIECE


def test_a_frame_that_asks_for_gigabytes_is_refused(plain: Stored) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30, write_content_size=False)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    plain.replace(compressor.compress(SNAPSHOT) + compressor.flush(), told=True)
    plain.refused("does not decompress")


def test_the_helper_of_other_tests_reads_the_same(stored: Stored) -> None:
    assert plaintext(stored.store, stored.manifest) == SNAPSHOT
