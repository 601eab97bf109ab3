"""The use case from end to end, over a fake cluster and stores in memory."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from etcdguard.backup import BackupJob, BackupOptions
from etcdguard.backup.ship import Shipper
from etcdguard.backup.spool import Spool
from etcdguard.crypto.recipients import generate_identity
from etcdguard.errors import (
    ClusterUnhealthy,
    Corruption,
    EtcdGuardError,
    EtcdUnreachable,
    Locked,
    RepositoryError,
    SnapshotFailed,
)
from etcdguard.model import HashKV
from etcdguard.progress import NoProgress
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import (
    IDENTITY,
    START,
    ManualClock,
    Node,
    catalog_of,
    chain_problems,
    database,
    plaintext,
    violations,
)  # fmt: skip
from tests.support.bolt_writer import with_trailer
from tests.support.fake_source import FakeSource, fake_members
from tests.support.faulty_store import Fault, FaultyStore, Rule


def source(revision: int = 20) -> FakeSource:
    return FakeSource(database(revision))


def leftovers(node: Node) -> list[str]:
    return sorted(path.name for path in node.spool_path.iterdir() if not path.name.startswith("last-"))


class Watching(NoProgress):
    def __init__(self) -> None:
        self.events: list[tuple[str, int | None]] = []

    def phase(self, name: str, total_bytes: int | None) -> None:
        self.events.append((name, total_bytes))

    def done(self) -> None:
        self.events.append(("done", None))


def test_one_backup(node: Node, store: MemoryStore) -> None:
    cluster = source()
    cluster.hash = HashKV(hash=7, revision=20, compact_revision=-1)
    cluster.prefixes = frozenset({b"/registry/"})
    progress = Watching()
    report = node.job(cluster, store, progress=progress).run()

    (backup,) = catalog_of(store).list().backups
    manifest = backup.manifest
    assert backup.signature == "valid"
    assert manifest == report.delivery.manifest
    assert manifest.id == report.backup.id == f"20261121T020001Z-r{20:020d}-{manifest.id[-8:]}"
    assert (manifest.hash_kv, manifest.cluster.kubernetes) == (cluster.hash, True)
    assert (manifest.cluster.member_name, manifest.cluster.cluster_id) == ("etcd-2", "c1")
    assert [member.name for member in manifest.members] == ["etcd-1", "etcd-2", "etcd-3"]
    assert manifest.encryption is not None
    assert manifest.encryption.recipients == (IDENTITY.recipient.fingerprint,)
    assert plaintext(store, manifest) == cluster.snapshot_bytes
    assert cluster.opened == cluster.closed == ["https://etcd-2:2379"]
    assert leftovers(node) == ["lock"]
    assert (report.failed, report.shipped) == ({}, ())
    assert report.seconds > 0
    assert progress.events == [
        ("snapshot", 4096), ("done", None), ("upload", report.backup.stored.bytes), ("done", None)
    ]  # fmt: skip


def test_one_after_the_other(node: Node, store: MemoryStore) -> None:
    for revision in (20, 21, 22):
        node.backup(revision, store)
    assert violations(store) == []
    assert chain_problems(catalog_of(store).list()) == []
    assert [one.manifest.snapshot.revision for one in catalog_of(store).list().backups] == [20, 21, 22]


def test_choices_reach_the_choice(node: Node, store: MemoryStore) -> None:
    cluster = source()
    node.options = {"endpoint": "https://etcd-3:2379", "compression_level": 3}
    report = node.run(cluster, store)
    node.options = {"prefer": "leader"}
    node.run(cluster, store)
    node.options = {"prefer": "local", "local_hosts": frozenset({"etcd-2"})}
    node.run(cluster, store)
    assert cluster.opened == [f"https://{name}:2379" for name in ("etcd-3", "etcd-1", "etcd-2")]
    assert report.backup.compression.level == 3


def test_without_a_leader_only_in_an_emergency(node: Node, store: MemoryStore) -> None:
    cluster = FakeSource(database(20), members=[replace(one, leader_id="0") for one in fake_members()])
    with pytest.raises(ClusterUnhealthy, match="knows no leader"):
        node.run(cluster, store)
    assert leftovers(node) == ["lock"]
    node.options = {"emergency": True}
    node.run(cluster, store)
    assert violations(store) == []


def test_encryption_can_be_switched_off_in_so_many_words(node: Node, store: MemoryStore) -> None:
    node.options = {"recipients": []}
    manifest = node.backup(20, store).delivery.manifest
    assert manifest is not None
    assert manifest.encryption is None
    assert manifest.objects[0].key.endswith("/snapshot.db.zst")
    assert plaintext(store, manifest) == with_trailer(database(20))


def test_several_recipients(node: Node, store: MemoryStore) -> None:
    second = generate_identity()
    node.options = {"recipients": [IDENTITY.recipient, second.recipient]}
    manifest = node.backup(20, store).delivery.manifest
    assert manifest is not None
    assert manifest.encryption is not None
    assert manifest.encryption.recipients == (IDENTITY.recipient.fingerprint, second.recipient.fingerprint)


# -- etcd fails --------------------------------------------------------------------------------------------

STALLED = SnapshotFailed("etcd-2: the snapshot stalled", hint="try another member")


def broken_stream() -> FakeSource:
    cluster = source()
    cluster.stream_error = STALLED
    return cluster


def wrong_trailer() -> FakeSource:
    cluster = source()
    cluster.trailer = bytes(32)
    return cluster


def no_etcd_database() -> FakeSource:
    return FakeSource(bytes(8192))


def nobody_answers() -> FakeSource:
    cluster = source()
    down = EtcdUnreachable("connection refused", hint="start it")
    cluster.failures = {member.endpoint: down for member in cluster.members}
    return cluster


@pytest.mark.parametrize(
    ("cluster", "kind", "exit_code"),
    [
        (broken_stream(), SnapshotFailed, 2),
        (wrong_trailer(), Corruption, 13),
        (no_etcd_database(), Corruption, 13),
        (nobody_answers(), EtcdUnreachable, 2),
    ],
    ids=["stream", "trailer", "database", "unreachable"],
)
def test_a_snapshot_that_fails_leaves_nothing(
    node: Node, store: MemoryStore, cluster: FakeSource, kind: type[EtcdGuardError], exit_code: int
) -> None:
    with pytest.raises(kind) as failure:
        node.run(cluster, store)
    assert failure.value.exit_code == exit_code
    assert leftovers(node) == ["lock"]
    assert list(store.list("")) == []
    assert cluster.opened == cluster.closed
    node.backup(20, store)
    assert violations(store) == []


def test_ctrl_c_leaves_nothing(node: Node, store: MemoryStore) -> None:
    class Interrupting(Watching):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        node.job(source(), store, progress=Interrupting()).run()
    assert leftovers(node) == ["lock"]
    assert list(store.list("")) == []


def test_a_store_that_cannot_be_set_up_leaves_nothing(node: Node) -> None:
    """It is set up while the snapshot streams, so that its problem is known only then."""

    def broken() -> Shipper:
        raise RepositoryError("no such profile", hint="check the AWS configuration")

    options = BackupOptions(cluster_name=node.cluster, recipients=[IDENTITY.recipient])
    job = BackupJob(source(), node.spool, broken, ["one"], options, node.clock, NoProgress())
    with pytest.raises(RepositoryError, match="no such profile"):
        job.run()
    assert leftovers(node) == ["lock"]


def test_a_hash_that_cannot_be_had_does_not_cost_the_backup(node: Node, store: MemoryStore) -> None:
    cluster = source()
    cluster.hash_error = EtcdUnreachable("deadline exceeded", hint="later")
    assert node.run(cluster, store).backup.hash_kv is None
    assert violations(store) == []


def test_a_hash_that_would_take_too_long_is_not_asked_for(node: Node, store: MemoryStore) -> None:
    cluster = source()
    cluster.hash = HashKV(hash=7, revision=20, compact_revision=-1)
    node.options = {"hash_kv_seconds": 0.0}
    assert node.run(cluster, store).backup.hash_kv is None


# -- repositories fail -------------------------------------------------------------------------------------


def down(store: RepositoryStore) -> FaultyStore:
    return FaultyStore(store, [Rule(Fault.TIMEOUT, "stale_uploads", times=None)])


def test_one_of_two_is_down_and_the_next_run_makes_up_for_it(node: Node, store: MemoryStore) -> None:
    two = MemoryStore("two")
    first = node.run(source(20), store, down(two))
    assert set(first.failed) == {"two"}
    assert first.delivery.committed

    second = node.run(source(21), store, down(two))
    assert set(second.failed) == {"two"}
    assert len(second.shipped) == 1

    third = node.run(source(22), store, two)
    assert third.failed == {}
    assert [delivery.backup_id for delivery in third.shipped] == [first.backup.id, second.backup.id]
    for one in (store, two):
        assert violations(one) == []
        assert chain_problems(catalog_of(one).list()) == []
        assert len(catalog_of(one).list().backups) == 3
    assert leftovers(node) == ["lock"]


def test_an_older_backup_that_still_fails_is_reported_though_the_new_one_went_through(
    node: Node, store: MemoryStore
) -> None:
    with pytest.raises(RepositoryError):
        node.run(source(20), down(store))
    once = FaultyStore(store, [Rule(Fault.DENIED, "stale_uploads")])
    report = node.run(source(21), once)
    assert report.delivery.failed == {}
    assert set(report.failed) == {"one"}


def test_all_are_down(node: Node, store: MemoryStore) -> None:
    with pytest.raises(
        RepositoryError, match=r"no repository took the backup \(one: .*timed out\)"
    ) as failure:
        node.run(source(20), down(store))
    assert failure.value.exit_code == 10
    assert failure.value.hint == (
        "a test did this; the backup is whole in the spool and the next run ships it"
    )
    two = MemoryStore("two")
    denied = FaultyStore(two, [Rule(Fault.DENIED, "put", times=None)])
    with pytest.raises(RepositoryError, match=r"one: .*timed out; two: .*AccessDenied"):
        node.run(source(21), down(store), denied)


def test_etcd_down_does_not_keep_the_spool_from_being_shipped(node: Node, store: MemoryStore) -> None:
    with pytest.raises(RepositoryError):
        node.run(source(20), down(store))
    with pytest.raises(EtcdUnreachable):
        node.run(nobody_answers(), store)
    assert [one.manifest.snapshot.revision for one in catalog_of(store).list().backups] == [20]
    assert leftovers(node) == ["lock"]


# -- the spool ---------------------------------------------------------------------------------------------


def test_a_new_repository_continues_the_chain_that_an_absent_one_holds(
    node: Node, store: MemoryStore
) -> None:
    first = node.run(source(20), store)
    fresh = MemoryStore("two")
    second = node.run(source(21), down(store), fresh)
    assert first.delivery.manifest is not None
    assert second.delivery.manifest is not None
    assert second.delivery.manifest.sequence == 2
    assert second.delivery.manifest.previous is not None
    assert second.delivery.manifest.previous.id == first.delivery.manifest.id
    assert set(second.failed) == {"one"}


def test_a_damaged_entry_is_left_for_a_person_and_stops_nothing(node: Node, store: MemoryStore) -> None:
    with pytest.raises(RepositoryError):
        node.run(source(20), down(store))
    (entry,) = node.spool.entries()
    (entry.path / "backup.json").write_text("rotten")
    assert node.run(source(21), store).failed == {}
    assert node.spool.entries() == [entry]


def test_another_run_holds_the_lock(node: Node, store: MemoryStore) -> None:
    cluster = source()
    with Spool(node.spool_path).locked(), pytest.raises(Locked):
        node.run(cluster, store)
    assert cluster.opened == []


def test_what_a_crash_left_incomplete_is_discarded(node: Node, store: MemoryStore) -> None:
    with node.spool.locked():
        entry = node.spool.new_entry()
        with entry.create() as out:
            out.write(b"half a snapshot")
    node.backup(20, store)
    assert leftovers(node) == ["lock"]
    assert len(catalog_of(store).list().backups) == 1


def test_folders_of_others_in_the_spool_survive(node: Node, store: MemoryStore) -> None:
    """``spool_dir: /var/lib/etcdguard`` must not cost the repository that lies in it."""
    precious = node.spool_path / "repository" / "prod" / "manifest.json"
    precious.parent.mkdir(parents=True)
    precious.write_text("everything")
    node.backup(20, store)
    assert precious.read_text() == "everything"


def test_two_clusters_share_a_spool_and_never_a_folder(node: Node, store: MemoryStore) -> None:
    with pytest.raises(RepositoryError):
        node.run(source(20), down(store))
    other = Node(node.spool_path, cluster="staging")
    report = other.run(source(21), store)
    assert report.shipped == ()
    assert [info.key for info in store.list("prod/")] == []
    assert len(leftovers(node)) == 2, "the lock, and what waits for the other cluster's run"

    node.backup(22, store)
    revisions = [one.manifest.snapshot.revision for one in catalog_of(store).list().backups]
    assert revisions == [20, 22]
    assert leftovers(node) == ["lock"]


def test_files_of_the_spool_are_private(node: Node, store: MemoryStore) -> None:
    old = os.umask(0)
    try:
        with pytest.raises(RepositoryError):
            node.run(source(20), down(store))
    finally:
        os.umask(old)
    (entry,) = node.spool.entries()
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in entry.path.iterdir()}
    assert modes == {"backup.json": "0o600", "snapshot.bin": "0o600"}
    assert node.spool_path.stat().st_mode & 0o777 == 0o700


def test_nothing_in_the_spool_can_be_read_without_the_identity(node: Node, store: MemoryStore) -> None:
    canary = b"canary-5f0c7a8e-never-in-the-clear"
    from tests.support.bolt_writer import revision_key, write_database

    plain = write_database([(revision_key(2), canary * 20)], {b"consistent_index": bytes(8)})
    with pytest.raises(RepositoryError):
        node.run(FakeSource(plain), down(store))
    files = [path for path in node.spool_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert not any(canary[:12] in path.read_bytes() for path in files)


def test_clocks_that_jump_back_do_not_change_the_order(node: Node, store: MemoryStore) -> None:
    node.backup(20, store)
    node.clock = ManualClock(START.replace(year=2020))
    node.backup(21, store)
    assert [one.manifest.snapshot.revision for one in catalog_of(store).list().backups] == [20, 21]
    assert catalog_of(store).resolve("latest").manifest.snapshot.revision == 21
