"""What a person is told when a backup cannot be found, read or written: error and hint, to the letter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from etcdguard.catalog import Backup, Catalog, Listing, Problem, encode_manifest
from etcdguard.catalog.catalog import keys_of
from etcdguard.catalog.codec import decode_manifest
from etcdguard.catalog.fleet import clusters
from etcdguard.catalog.layout import Layout
from etcdguard.catalog.reading import read_small
from etcdguard.catalog.standing import Standing, Verified
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import (
    ConfigError,
    Corruption,
    EtcdGuardError,
    ObjectNotFound,
    Refused,
    UnsupportedFormat,
    UsageError,
)
from etcdguard.model import Manifest
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, SIGNER, START, TRUSTED
from tests.support.restores import make_manifest
from tests.unit.catalog.repository import Repository

Told = tuple[type[EtcdGuardError], str, str]

ANOTHER = "restore from another backup or repository; 'etcdguard verify --all' shows which are sound"
TRUST = "add the key that signed it to signing.trusted_signers, or pass --allow-unsigned"
SEE_LIST = "see 'etcdguard list'"
MANIFEST = make_manifest()
DOCUMENT = json.loads(encode_manifest(MANIFEST))


@pytest.fixture
def repository() -> Repository:
    return Repository()


def of(error: EtcdGuardError) -> Told:
    return type(error), error.message, error.hint


def told(use: Callable[[], object]) -> Told:
    with pytest.raises(EtcdGuardError) as caught:
        use()
    return of(caught.value)


def manifest_with(**changes: object) -> bytes:
    return json.dumps({**DOCUMENT, **changes}).encode()


# -- finding -----------------------------------------------------------------------------------------------


def test_a_backup_that_is_not_there(repository: Repository) -> None:
    catalog = repository.catalog
    assert told(lambda: catalog.get("latest")) == (UsageError, "'latest' is not a backup id", SEE_LIST)
    assert told(lambda: catalog.layout.hold("x")) == (UsageError, "'x' is not a backup id", SEE_LIST)
    message = f"no backup {MANIFEST.id} of cluster prod in repository m"
    assert told(lambda: catalog.get(MANIFEST.id)) == (ObjectNotFound, message, SEE_LIST)


def test_a_repository_without_backups_or_clusters(repository: Repository) -> None:
    assert told(lambda: repository.catalog.resolve("latest")) == (
        ObjectNotFound,
        "no backup of cluster prod in repository m",
        "check cluster.name and the repository with 'etcdguard check repository'",
    )
    assert told(lambda: clusters(repository.store)) == (
        ObjectNotFound,
        "repository m holds no cluster's backups",
        "check the repository's bucket and prefix, or its path",
    )


def test_a_cluster_that_cannot_have_a_folder() -> None:
    assert told(lambda: Layout("a/b")) == (
        ConfigError,
        "cluster name 'a/b' cannot be a folder name",
        "use letters, digits, '.', '_' and '-', starting with a letter or digit",
    )


def test_an_object_too_large_to_be_a_manifest() -> None:
    """Exactly as large as allowed is read whole."""
    store = MemoryStore("m")
    store.put("k", bytes(1024 * 1024))
    assert len(read_small(store, "k")) == 1024 * 1024
    store.put("k", bytes(1024 * 1024 + 1))
    message = "k is larger than any manifest"
    assert told(lambda: read_small(store, "k")) == (Corruption, message, "restore from another backup")


class AskedStore(MemoryStore):
    """Remembers how much it was asked for, and gives it a byte at a time."""

    lengths: tuple[int | None, ...] = ()

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        self.lengths += (length,)
        body = b"".join(super().get(key, offset=offset, length=length))
        return (bytes([byte]) for byte in body)


def test_no_more_is_asked_for_than_tells_that_it_is_too_much() -> None:
    store = AskedStore("m")
    store.put("k", b"several pieces")
    assert read_small(store, "k") == b"several pieces"
    assert store.lengths == (1024 * 1024 + 1,)


# -- reading a manifest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "error", "rest", "hint"),
    [
        (b"{", Corruption, "is not valid JSON", ANOTHER),
        (b'{"a": 1, "a": 1}', Corruption, "is not valid JSON", ANOTHER),
        (b'{"a": NaN}', Corruption, "is not valid JSON", ANOTHER),
        (b"[]", Corruption, "names no etcdguard format", ANOTHER),
        (b'{"format": "etcd/1"}', Corruption, "names no etcdguard format", ANOTHER),
        (b'{"format": 1}', Corruption, "names no etcdguard format", ANOTHER),
        (manifest_with(objects=[]), Corruption, "names objects outside its own folder", ANOTHER),
    ],
    ids=["half", "twice", "no number", "list", "foreign", "odd", "nothing"],
)
def test_a_manifest_that_is_none(raw: bytes, error: type[EtcdGuardError], rest: str, hint: str) -> None:
    expected = (error, f"the manifest of {MANIFEST.id} {rest}", hint)
    assert told(lambda: decode_manifest(raw, MANIFEST.id)) == expected


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (manifest_with(node=1), "node"),
        (manifest_with(objects=[{**DOCUMENT["objects"][0], "bytes": "1"}]), "objects.0.bytes"),
    ],
    ids=["a field", "a field of a part"],
)
def test_a_manifest_with_a_wrong_type_names_the_place_and_says_why(raw: bytes, place: str) -> None:
    kind, message, hint = told(lambda: decode_manifest(raw, MANIFEST.id))
    before, why = message.split(f" is malformed at {place}: ")
    assert (kind, before, hint) == (Corruption, f"the manifest of {MANIFEST.id}", ANOTHER)
    assert why.startswith("Input should be")


def test_a_manifest_of_a_later_version() -> None:
    """What it says of itself is shown, as far as it is a name."""
    expected = (
        UnsupportedFormat,
        f"backup {MANIFEST.id} is in format 'etcdguard/{'9' * 30}'; this version reads 'etcdguard/1'",
        "use a newer etcdguard",
    )
    later = manifest_with(format="etcdguard/" + "9" * 100)
    assert told(lambda: decode_manifest(later, MANIFEST.id)) == expected


def test_the_manifest_of_another_backup() -> None:
    other = MANIFEST.id[:-1] + "f"
    message = f"the manifest stored for {other} belongs to {MANIFEST.id}"
    assert told(lambda: decode_manifest(encode_manifest(MANIFEST), other)) == (Corruption, message, ANOTHER)


def test_two_objects_of_which_one_is_elsewhere() -> None:
    entry = DOCUMENT["objects"][0]
    raw = manifest_with(objects=[entry, {**entry, "key": "backups/other/x"}])
    message = f"the manifest of {MANIFEST.id} names objects outside its own folder"
    assert told(lambda: decode_manifest(raw, MANIFEST.id)) == (Corruption, message, ANOTHER)


# -- what stands beside it ---------------------------------------------------------------------------------


def test_who_signed_it_must_be_trusted(repository: Repository) -> None:
    signed, unsigned, foreign = (
        repository.add(revision, signer=signer)
        for revision, signer in ((5, SIGNER), (6, None), (7, SigningKey.generate()))
    )
    get = repository.catalog.get
    get(signed.id).require_trusted()
    of_unsigned, of_foreign = (told(get(one.id).require_trusted) for one in (unsigned, foreign))
    assert of_unsigned == (Refused, f"backup {unsigned.id} is not signed", TRUST)
    assert of_foreign == (Corruption, f"backup {foreign.id} is not signed by anyone trusted here", TRUST)


def problems(listing: Listing) -> dict[str, Told]:
    return {problem.id: of(problem.error) for problem in listing.problems}


def test_every_problem_is_told_under_the_id_of_its_backup(repository: Repository) -> None:
    missing, short, broken, sound = (repository.add(revision) for revision in (5, 6, 7, 8))
    repository.store.delete(repository.object_key(missing))
    repository.store.put(repository.object_key(short), b"short")
    repository.store.put(repository.catalog.layout.manifest(broken.id), b"{")
    listing = repository.catalog.list()
    assert [backup.id for backup in listing.backups] == [sound.id]
    expected = short.objects[0].bytes
    assert problems(listing) == {
        missing.id: (Corruption, f"{missing.objects[0].key} is missing", ANOTHER),
        short.id: (Corruption, f"{short.objects[0].key} has 5 bytes instead of {expected}", ANOTHER),
        broken.id: (Corruption, f"the manifest of {broken.id} is not valid JSON", ANOTHER),
    }


def test_a_backup_of_another_cluster(repository: Repository) -> None:
    manifest = repository.add(5)
    for info in list(repository.store.list("prod/")):
        raw = b"".join(repository.store.get(info.key))
        repository.store.put(info.key.replace("prod/", "dev/"), raw)
    listing = Catalog(repository.store, "dev", TRUSTED).list()
    message = f"the manifest of {manifest.id} is of cluster 'prod', not of 'dev'"
    assert problems(listing) == {manifest.id: (Corruption, message, ANOTHER)}


def test_when_all_are_damaged_the_last_problem_is_told(repository: Repository) -> None:
    manifests = [repository.add(revision) for revision in (5, 6)]
    for manifest in manifests:
        repository.store.delete(repository.object_key(manifest))
    message = f"{manifests[-1].objects[0].key} is missing"
    assert told(lambda: repository.catalog.resolve("latest")) == (Corruption, message, ANOTHER)


def test_another_manifest_under_the_same_key(repository: Repository) -> None:
    manifest = repository.add(5)
    other = encode_manifest(manifest.model_copy(update={"node": "another"}))
    key = repository.catalog.layout.manifest(manifest.id)
    hint = "nothing was overwritten; run 'etcdguard verify --all'"
    assert told(lambda: repository.catalog.commit(manifest.id, other, None)) == (
        Corruption,
        f"repository m already holds another {key}",
        hint,
    )


def test_what_nobody_has_verified_or_held_says_so(repository: Repository) -> None:
    first, second = repository.add(5), repository.add(6)
    repository.store.put(repository.catalog.layout.hold(first.id), b"{}")
    results = [{"id": first.id, "level": "manifest", "outcome": "ok"}]
    repository.catalog.trail.record("verify", {"results": results}, at=START, actor="n", signer=SIGNER)
    backups = {backup.id: backup for backup in repository.catalog.list().backups}
    assert (backups[second.id].held, backups[second.id].standing) == (False, Standing())
    assert backups[second.id].verified is None
    assert (backups[first.id].held, backups[first.id].verified) == (True, Verified("manifest", START))
    assert repository.catalog.resolve(second.id) == backups[second.id]


def test_all_that_a_backup_consists_of_its_manifest_first(repository: Repository) -> None:
    manifest: Manifest = repository.add(5)
    folder = f"{CLUSTER}/backups/{manifest.id}/"
    keys = keys_of(repository.catalog.layout, manifest)
    assert keys == (
        f"{folder}manifest.json",
        f"{folder}snapshot.db.zst.age",
        f"{folder}manifest.json.sig",
    )
    assert sorted(keys) == [info.key for info in repository.store.list(folder)]


def test_what_is_kept_of_a_backup_does_not_show_its_bytes(repository: Repository) -> None:
    backup = repository.catalog.get(repository.add(5).id)
    assert isinstance(backup, Backup)
    assert not isinstance(backup, Problem)
    assert "raw=" not in repr(backup)
