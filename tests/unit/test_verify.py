"""What verification finds, word for word, and what it cannot be deceived by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard

from etcdguard.catalog import encode_manifest
from etcdguard.crypto.age import Encryptor
from etcdguard.crypto.recipients import Identity, generate_identity
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import AccessDenied, ObjectNotFound, StoreUnavailable, UnsupportedFormat, WrongKey
from etcdguard.model import Manifest, ObjectEntry
from etcdguard.progress import NoProgress
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.memory import MemoryStore
from etcdguard.verify import Level, Verifier, VerifyResult
from tests.support.backups import IDENTITY, SIGNER, Node, catalog_of, database
from tests.support.bolt_writer import revision_key, with_trailer, write_database
from tests.support.faulty_store import Fault, FaultyStore, Rule

LEVELS = pytest.mark.parametrize("level", ["manifest", "data"])


class Scene:
    """Three backups in a chain."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore("m")
        self.node = Node(folder / "spool")
        made = [self.node.backup(revision, self.store).delivery.manifest for revision in (20, 21, 22)]
        self.manifests = [manifest for manifest in made if manifest is not None]
        self.first, self.second, self.third = self.manifests

    def verifier(
        self, store: RepositoryStore | None = None, identities: Sequence[Identity] = (IDENTITY,)
    ) -> Verifier:
        return Verifier(catalog_of(store or self.store), lambda: identities, NoProgress())

    def problems(self, level: Level) -> dict[str, tuple[str, ...]]:
        """By id, of all that have any."""
        return {one.id: one.problems for one in self.verifier().every(level) if one.problems}

    def object_key(self, manifest: Manifest) -> str:
        return f"prod/{manifest.objects[0].key}"

    def rewrite(self, manifest: Manifest, *, signer: SigningKey = SIGNER, **changes: Any) -> Manifest:
        """Another manifest in its place, properly signed."""
        changed = manifest.model_copy(update=changes)
        raw = encode_manifest(changed)
        layout = catalog_of(self.store).layout
        self.store.put(layout.signature(manifest.id), signer.sign(raw))
        self.store.put(layout.manifest(manifest.id), raw)
        return changed

    def rebuild(self, manifest: Manifest, snapshot: bytes, **facts: Any) -> Manifest:
        """Another snapshot in its place, with everything around it right."""
        encryptor = Encryptor([IDENTITY.recipient])
        compressed = zstandard.ZstdCompressor(write_checksum=True).compress(snapshot)
        body = encryptor.start() + encryptor.update(compressed) + encryptor.finish()
        entry = ObjectEntry(
            key=manifest.objects[0].key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest()
        )
        self.store.put(self.object_key(manifest), body)
        told = {"db_bytes": len(snapshot) - 32, "sha256": snapshot[-32:].hex(), **facts}
        return self.rewrite(manifest, objects=(entry,), snapshot=manifest.snapshot.model_copy(update=told))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


@LEVELS
def test_sound_backups(scene: Scene, level: Level) -> None:
    results = scene.verifier().every(level)
    assert results == [VerifyResult(manifest.id, level, ()) for manifest in scene.manifests]
    assert {result.outcome for result in results} == {"ok"}
    assert scene.verifier().one("latest", level) == [VerifyResult(scene.third.id, level, ())]
    assert scene.verifier().one(scene.first.id, level) == [VerifyResult(scene.first.id, level, ())]


def test_the_manifest_level_needs_no_identity_and_reads_no_object(scene: Scene) -> None:
    watched = FaultyStore(scene.store)

    def no_identities() -> Sequence[Identity]:
        pytest.fail("asked for an identity")

    results = Verifier(catalog_of(watched), no_identities, NoProgress()).every("manifest")
    assert {result.outcome for result in results} == {"ok"}
    assert not any(operation == "get" and key.endswith(".age") for operation, key in watched.operations)


# -- signature and chain -----------------------------------------------------------------------------------


@LEVELS
def test_an_unsigned_manifest(scene: Scene, level: Level) -> None:
    scene.store.delete(catalog_of(scene.store).layout.signature(scene.second.id))
    assert scene.problems(level) == {scene.second.id: ("the manifest is not signed",)}


@LEVELS
def test_a_signature_by_nobody_we_trust(scene: Scene, level: Level) -> None:
    scene.rewrite(scene.third, signer=SigningKey.generate())
    assert scene.problems(level) == {
        scene.third.id: ("the manifest's signature is by no trusted signer, or the manifest was changed",)
    }


@LEVELS
def test_a_manifest_put_in_anothers_place_breaks_the_chain(scene: Scene, level: Level) -> None:
    scene.rewrite(scene.second, node="someone-else")
    assert scene.problems(level) == {
        scene.third.id: (
            f"the chain is broken: {scene.second.id} is not the manifest this one was written after",
        )
    }


def test_a_pruned_predecessor_is_no_problem(scene: Scene) -> None:
    for info in list(scene.store.list(f"prod/backups/{scene.second.id}/")):
        scene.store.delete(info.key)
    assert scene.problems("data") == {}


def test_a_second_beginning_of_the_chain(scene: Scene) -> None:
    scene.rewrite(scene.third, previous=None)
    assert scene.problems("manifest") == {scene.third.id: ("sequence 3 names no previous manifest",)}


# -- objects -----------------------------------------------------------------------------------------------


@LEVELS
def test_a_missing_object(scene: Scene, level: Level) -> None:
    scene.store.delete(scene.object_key(scene.second))
    problem = (f"{scene.second.objects[0].key} is missing",)
    assert scene.problems(level) == {scene.second.id: problem}
    assert scene.verifier().one(scene.second.id, level) == [VerifyResult(scene.second.id, level, problem)]


@LEVELS
def test_an_object_of_another_size(scene: Scene, level: Level) -> None:
    scene.store.put(scene.object_key(scene.second), b"short")
    entry = scene.second.objects[0]
    problem = f"{entry.key} has 5 bytes instead of {entry.bytes}"
    assert scene.problems(level) == {scene.second.id: (problem,)}
    (result,) = scene.verifier().one(scene.second.id, level)
    assert result.problems[0] == problem
    assert len(result.problems) == (2 if level == "data" else 1)


def test_a_changed_byte_is_found_by_reading(scene: Scene) -> None:
    body = b"".join(scene.store.get(scene.object_key(scene.second)))
    middle = len(body) // 2
    scene.store.put(
        scene.object_key(scene.second), body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
    )
    assert scene.problems("manifest") == {}
    problems = scene.problems("data")
    assert list(problems) == [scene.second.id]
    assert len(problems[scene.second.id]) == 1


@LEVELS
def test_a_damaged_manifest(scene: Scene, level: Level) -> None:
    scene.store.put(catalog_of(scene.store).layout.manifest(scene.second.id), b"{")
    problem = (f"the manifest of {scene.second.id} is not valid JSON",)
    assert scene.problems(level) == {scene.second.id: problem}
    assert scene.verifier().one(scene.second.id, level) == [VerifyResult(scene.second.id, level, problem)]
    assert [one.id for one in scene.verifier().every(level)] == [one.id for one in scene.manifests]


# -- the database inside -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "problem"),
    [
        ({"revision": 23}, "the snapshot's revision is 22, the manifest says 23"),
        ({"compact_revision": 4}, "the snapshot's compact revision is -1, the manifest says 4"),
        ({"consistent_index": 9}, "the snapshot's consistent index is 22, the manifest says 9"),
        ({"total_keys": 22}, "the snapshot's number of keys is 21, the manifest says 22"),
    ],
)
def test_facts_that_are_not_those_of_the_database(scene: Scene, fact: dict[str, int], problem: str) -> None:
    scene.rewrite(scene.third, snapshot=scene.third.snapshot.model_copy(update=fact))
    assert scene.problems("manifest") == {}
    assert scene.problems("data") == {scene.third.id: (problem,)}


def unordered() -> bytes:
    revisions = [(revision_key(number), b"v") for number in (2, 4, 3, 22)]
    return with_trailer(write_database(revisions, {b"consistent_index": (22).to_bytes(8, "big")}))


def lost_page() -> bytes:
    """A leaf of the key bucket was overwritten before etcd read it: the trailer fits, the tree does not."""
    data = bytearray(database(400, value_bytes=50))
    data[8 * 4096 : 9 * 4096] = bytes(4096)
    return with_trailer(bytes(data))


@pytest.mark.parametrize("snapshot", [unordered, lost_page, lambda: with_trailer(bytes(8192))])
def test_a_database_that_was_broken_before_it_was_backed_up(
    scene: Scene, snapshot: Callable[[], bytes]
) -> None:
    scene.rebuild(scene.third, snapshot())
    assert scene.problems("manifest") == {}
    problems = scene.problems("data")
    assert list(problems) == [scene.third.id]
    assert problems[scene.third.id][0]


# -- errors are not findings -------------------------------------------------------------------------------


def test_a_wrong_identity_is_the_readers_fault(scene: Scene) -> None:
    for identities in ((), (generate_identity(),)):
        with pytest.raises(WrongKey):
            scene.verifier(identities=identities).one("latest", "data")


@pytest.mark.parametrize("rule", [Rule(Fault.TIMEOUT, "head"), Rule(Fault.CUT_SHORT, "get", key=".age")])
def test_a_store_that_fails_is_not_a_damaged_backup(scene: Scene, rule: Rule) -> None:
    with pytest.raises(StoreUnavailable):
        scene.verifier(FaultyStore(scene.store, [rule])).every("data")
    with pytest.raises(AccessDenied):
        scene.verifier(FaultyStore(scene.store, [Rule(Fault.DENIED, "list")])).every("manifest")


def test_what_is_not_there_cannot_be_verified(scene: Scene) -> None:
    with pytest.raises(ObjectNotFound):
        scene.verifier().one(scene.first.id.replace("-r0", "-r9"), "data")
    with pytest.raises(ObjectNotFound):
        scene.verifier(MemoryStore("empty")).one("latest", "data")
    with pytest.raises(ObjectNotFound):
        scene.verifier(MemoryStore("empty")).every("data")


def test_a_newer_format_is_not_damage(scene: Scene) -> None:
    layout = catalog_of(scene.store).layout
    scene.store.put(layout.manifest(scene.third.id), b'{"format": "etcdguard/2"}')
    with pytest.raises(UnsupportedFormat):
        scene.verifier().one(scene.third.id, "data")
