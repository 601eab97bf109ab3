from __future__ import annotations

from collections.abc import Iterator

import pytest

from etcdguard.catalog import Backup, Catalog, encode_manifest
from etcdguard.catalog.standing import Standing, Verified
from etcdguard.crypto.signing import SigningKey, TrustedSigners
from etcdguard.errors import (
    AccessDenied,
    Corruption,
    ObjectNotFound,
    RepositoryError,
    StoreUnavailable,
    UnsupportedFormat,
    UsageError,
)
from etcdguard.storage.base import ObjectInfo
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, SIGNER, START, TRUSTED
from tests.support.faulty_store import Fault, FaultyStore, Rule
from tests.unit.catalog.repository import Repository

FOREIGN = SigningKey.generate()


@pytest.fixture
def repository() -> Repository:
    return Repository()


def ids(backups: tuple[Backup, ...]) -> list[str]:
    return [backup.id for backup in backups]


def the_problem(repository: Repository) -> str:
    listing = repository.catalog.list()
    (problem,) = listing.problems
    assert problem.id not in ids(listing.backups)
    assert isinstance(problem.error, Corruption | UnsupportedFormat)
    assert problem.error.hint
    return problem.error.message


# -- what is listed ----------------------------------------------------------------------------------------


def test_an_empty_repository_is_empty(repository: Repository) -> None:
    listing = repository.catalog.list()
    assert (listing.backups, listing.problems) == ((), ())
    assert repository.catalog.links() == ()


def test_a_backup_with_everything_beside_it(repository: Repository) -> None:
    manifest = repository.add(5)
    repository.store.put(f"prod/holds/{manifest.id}.json", b"{}")
    results = [{"id": manifest.id, "level": "data", "outcome": "ok"}]
    repository.catalog.trail.record("verify", {"results": results}, at=START, actor="n", signer=SIGNER)
    (backup,) = repository.catalog.list().backups
    assert backup == Backup(
        manifest,
        encode_manifest(manifest),
        "valid",
        SIGNER.public.fingerprint,
        held=True,
        standing=Standing(Verified("data", START)),
    )
    assert repository.catalog.resolve(manifest.id) == backup == repository.catalog.resolve("latest")


def test_restore_order_is_epoch_then_revision_whatever_the_clocks_said(repository: Repository) -> None:
    old = repository.add(900)
    earlier_revision_later = repository.add(800)
    restored = repository.add(10, cluster_id="beef")
    assert ids(repository.catalog.list().backups) == [earlier_revision_later.id, old.id, restored.id]
    assert repository.catalog.resolve("latest").manifest == restored
    assert [link.manifest.id for link in repository.catalog.links()] == sorted(
        [old.id, earlier_revision_later.id, restored.id]
    )


def test_other_clusters_and_stray_files_are_not_seen(repository: Repository) -> None:
    manifest = repository.add(5)
    for stray in ("prod/backups/readme", "prod/backups/x/manifest.json", "prod-2/backups/a", "checks/1"):
        repository.store.put(stray, b"stray")
    repository.store.put(f"prod/backups/{manifest.id}/unknown-file", b"from a later version")
    listing = repository.catalog.list()
    assert (ids(listing.backups), listing.problems) == ([manifest.id], ())


def test_objects_and_a_signature_without_a_manifest_do_not_exist(repository: Repository) -> None:
    manifest = repository.add(5)
    repository.store.delete(repository.catalog.layout.manifest(manifest.id))
    assert repository.catalog.list() == Repository().catalog.list()
    with pytest.raises(ObjectNotFound, match=f"no backup {manifest.id} of cluster prod in repository m"):
        repository.catalog.get(manifest.id)


# -- signatures --------------------------------------------------------------------------------------------


def test_an_unsigned_backup_is_shown_as_such(repository: Repository) -> None:
    repository.add(5, signer=None)
    (backup,) = repository.catalog.list().backups
    assert (backup.signature, backup.signer) == ("missing", None)


@pytest.mark.parametrize(
    "signature",
    [b"", b"x", bytes(64), bytes(65), SIGNER.sign(b"something else")],
    ids=["empty", "short", "zeros", "long", "of other bytes"],
)
def test_a_signature_that_does_not_fit_is_invalid(repository: Repository, signature: bytes) -> None:
    manifest = repository.add(5)
    repository.store.put(repository.catalog.layout.signature(manifest.id), signature)
    (backup,) = repository.catalog.list().backups
    assert (backup.signature, backup.signer) == ("invalid", None)


def test_a_signature_by_somebody_else_is_invalid_until_trusted(repository: Repository) -> None:
    repository.add(5, signer=FOREIGN)
    assert repository.catalog.list().backups[0].signature == "invalid"
    trusting = Catalog(repository.store, CLUSTER, TrustedSigners([SIGNER.public, FOREIGN.public]))
    assert trusting.list().backups[0].signer == FOREIGN.public.fingerprint


def test_a_changed_manifest_loses_its_signature(repository: Repository) -> None:
    manifest = repository.add(5)
    changed = encode_manifest(manifest.model_copy(update={"node": "another"}))
    repository.store.put(repository.catalog.layout.manifest(manifest.id), changed)
    assert repository.catalog.list().backups[0].signature == "invalid"


def test_a_signature_too_large_to_be_one_is_a_problem(repository: Repository) -> None:
    manifest = repository.add(5)
    repository.store.put(repository.catalog.layout.signature(manifest.id), bytes(1024 * 1024 + 1))
    assert "larger than any manifest" in the_problem(repository)


# -- what is damaged is a problem, and never listed --------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b'{"format": "etcdguard/9"}', "in format 'etcdguard/9'"),
        (b" " * (1024 * 1024 + 1), "larger than any manifest"),
    ],
)
def test_a_damaged_manifest(repository: Repository, raw: bytes, message: str) -> None:
    sound, damaged = repository.add(5), repository.add(6)
    repository.store.put(repository.catalog.layout.manifest(damaged.id), raw)
    assert message in the_problem(repository)
    assert ids(repository.catalog.list().backups) == [sound.id]
    assert [link.manifest.id for link in repository.catalog.links()] == [sound.id]


def test_a_manifest_under_another_id(repository: Repository) -> None:
    first, second = repository.add(5), repository.add(6)
    layout = repository.catalog.layout
    for key in (layout.manifest, layout.signature):
        repository.store.put(key(second.id), b"".join(repository.store.get(key(first.id))))
    assert f"belongs to {first.id}" in the_problem(repository)


def test_a_backup_of_another_cluster_in_our_folder(repository: Repository) -> None:
    """Signed by the same key, as one operator's clusters are: only the name tells them apart."""
    manifest = repository.add(5)
    for info in list(repository.store.list("prod/")):
        body = b"".join(repository.store.get(info.key))
        repository.store.put(info.key.replace("prod/", "staging/"), body)
    listing = Catalog(repository.store, "staging", TRUSTED).list()
    assert listing.backups == ()
    (problem,) = listing.problems
    assert problem.error.message == f"the manifest of {manifest.id} is of cluster 'prod', not of 'staging'"


def test_a_missing_object(repository: Repository) -> None:
    manifest = repository.add(5)
    repository.store.delete(repository.object_key(manifest))
    assert the_problem(repository) == f"{manifest.objects[0].key} is missing"


def test_an_object_of_another_size(repository: Repository) -> None:
    manifest = repository.add(5)
    repository.store.put(repository.object_key(manifest), b"short")
    assert f"has 5 bytes instead of {manifest.objects[0].bytes}" in the_problem(repository)


# -- errors are never an empty answer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        (Rule(Fault.TIMEOUT, "list", key="backups/"), StoreUnavailable),
        (Rule(Fault.CUT_SHORT, "list", key="backups/"), StoreUnavailable),
        (Rule(Fault.DENIED, "list", key="holds/"), AccessDenied),
        (Rule(Fault.CUT_SHORT, "list", key="events/"), StoreUnavailable),
        (Rule(Fault.DENIED, "get", key="manifest.json"), AccessDenied),
        (Rule(Fault.CUT_SHORT, "get", key="manifest.json"), StoreUnavailable),
        (Rule(Fault.SERVER_ERROR, "get", key="manifest.json.sig"), StoreUnavailable),
    ],
)
def test_a_failing_read_is_raised(repository: Repository, rule: Rule, error: type[RepositoryError]) -> None:
    for revision in range(1, 5):
        repository.add(revision)
    for use in (Catalog.list, lambda catalog: catalog.resolve("latest")):
        catalog = Catalog(FaultyStore(repository.store, [rule]), CLUSTER, TRUSTED)
        with pytest.raises(error):
            use(catalog)


def test_links_need_every_manifest(repository: Repository) -> None:
    repository.add(1)
    for rule in (Rule(Fault.CUT_SHORT, "list"), Rule(Fault.DENIED, "get")):
        with pytest.raises(RepositoryError):
            Catalog(FaultyStore(repository.store, [rule]), CLUSTER, TRUSTED).links()


class DeletingStore(MemoryStore):
    """Somebody deletes a backup, manifest first, as soon as it has been listed."""

    victim = ""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = list(super().list(prefix))
        if self.victim:
            for info in found:
                if self.victim in info.key:
                    self.delete(info.key)
        return iter(found)


def test_a_backup_deleted_while_we_list_is_neither_listed_nor_a_problem() -> None:
    store = DeletingStore("m")
    repository = Repository(store)
    kept, gone = repository.add(5), repository.add(6)
    store.victim = gone.id
    listing = repository.catalog.list()
    assert (ids(listing.backups), listing.problems) == ([kept.id], ())


def test_the_most_recent_are_the_newest_by_time_in_restore_order(repository: Repository) -> None:
    """Only they are read, and no object is looked at."""
    made = [repository.add(revision) for revision in (900, 800, 700)]
    restored = repository.add(10, cluster_id="beef")
    repository.store.delete(repository.object_key(made[1]))
    watched = FaultyStore(repository.store)
    recent = Catalog(watched, CLUSTER, TRUSTED).recent(3)
    assert [backup.id for backup in recent] == [made[2].id, made[1].id, restored.id]
    assert not [key for _, key in watched.operations if made[0].id in key]
    assert len(repository.catalog.recent(9)) == 4


def test_a_damaged_one_of_the_most_recent_is_left_out(repository: Repository) -> None:
    """An older one does not take its place: what is asked is what the newest say."""
    _old, sound, damaged = repository.add(5), repository.add(6), repository.add(7)
    repository.store.put(repository.catalog.layout.manifest(damaged.id), b"{")
    assert [backup.id for backup in repository.catalog.recent(2)] == [sound.id]


# -- one backup --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reference", ["", "lates", "../x", "20261121T010000Z-r5033-9f31c2aa"])
def test_what_is_no_id(repository: Repository, reference: str) -> None:
    with pytest.raises(UsageError, match="is not a backup id"):
        repository.catalog.resolve(reference)


def test_latest_of_nothing(repository: Repository) -> None:
    with pytest.raises(ObjectNotFound, match="no backup of cluster prod in repository m"):
        repository.catalog.resolve("latest")


def test_latest_when_everything_is_damaged_says_what_is_wrong(repository: Repository) -> None:
    manifest = repository.add(5)
    repository.store.delete(repository.object_key(manifest))
    with pytest.raises(Corruption, match="is missing"):
        repository.catalog.resolve("latest")


def test_latest_passes_over_a_damaged_one(repository: Repository) -> None:
    sound, damaged = repository.add(5), repository.add(6)
    repository.store.delete(repository.object_key(damaged))
    assert repository.catalog.resolve("latest").manifest == sound


# -- commit ------------------------------------------------------------------------------------------------


def test_commit_writes_the_signature_first_and_repeating_it_changes_nothing(repository: Repository) -> None:
    watched = FaultyStore(repository.store)
    catalog = Catalog(watched, CLUSTER, TRUSTED)
    manifest = repository.manifest(5)
    raw = encode_manifest(manifest)
    catalog.commit(manifest.id, raw, SIGNER.sign(raw))
    key = catalog.layout.manifest(manifest.id)
    assert watched.operations == [("put", key + ".sig"), ("put", key)]
    catalog.commit(manifest.id, raw, SIGNER.sign(raw))
    assert b"".join(repository.store.get(key)) == raw


def test_commit_overwrites_neither_manifest_nor_signature(repository: Repository) -> None:
    manifest = repository.add(5)
    other = encode_manifest(manifest.model_copy(update={"node": "another"}))
    with pytest.raises(Corruption, match=r"already holds another .*manifest\.json\.sig"):
        repository.catalog.commit(manifest.id, other, SIGNER.sign(other))
    with pytest.raises(Corruption, match=r"already holds another .*manifest\.json$"):
        repository.catalog.commit(manifest.id, other, None)
    assert repository.catalog.list().backups[0].signature == "valid"
