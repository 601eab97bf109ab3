"""The upload that begins while the snapshot is still being taken."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from etcdguard.backup.early import Begun, EarlyUpload
from etcdguard.backup.growing import GrowingObject
from etcdguard.errors import (
    AccessDenied,
    ConfigError,
    Corruption,
    EtcdUnreachable,
    RepositoryError,
    SnapshotFailed,
)
from etcdguard.model import BackupId
from etcdguard.progress import NoProgress
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import Node, catalog_of, chain_problems, database, plaintext
from tests.support.bolt_writer import with_trailer
from tests.support.crashes import CrashingStore, Fuse, count_disk_steps
from tests.support.fake_source import FakeSource, fake_members
from tests.support.faulty_store import Fault, FaultyStore, Rule, SimulatedCrash
from tests.support.waiting import eventually

PART = 300_000
REVISION = 20
_DATABASE = database(REVISION, value_bytes=200_000)
"""Four pieces of a stream, which do not compress."""


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdguard.backup.upload.PART_SIZE", PART)


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore("one"))


def operations(store: FaultyStore, name: str) -> int:
    return sum(operation == name for operation, _ in store.operations)


def source(*stores: FaultyStore, revision: int = REVISION, parts: int = 3) -> FakeSource:
    """A cluster that stands still at ``revision``; the snapshot's last piece waits for the stores' parts."""
    members = [replace(one, db_size=len(_DATABASE)) for one in fake_members()]

    def wait(number: int) -> None:
        if number == 4:
            eventually(
                lambda: all(operations(store, "write_part") >= parts for store in stores),
                "parts are uploaded",
            )

    return FakeSource(_DATABASE, members, revisions=itertools.repeat(revision), before_piece=wait)


def whole(store: MemoryStore | FaultyStore) -> bool:
    (backup,) = catalog_of(store).list().backups
    return plaintext(store, backup.manifest) == with_trailer(_DATABASE)


class Shown(NoProgress):
    def __init__(self) -> None:
        self.phases: dict[str, list[int]] = {}
        self.lock = threading.Lock()

    def phase(self, name: str, total_bytes: int | None) -> None:
        assert total_bytes is not None
        self.current = self.phases[name] = [total_bytes, 0]

    def advance(self, count: int) -> None:
        with self.lock:
            self.current[1] += count


def test_the_upload_begins_before_the_snapshot_ends(node: Node, store: FaultyStore) -> None:
    shown = Shown()
    report = node.job(source(store), store, progress=shown).run()
    assert report.failed == {}
    assert whole(store)
    assert f"-r{REVISION:020d}-" in report.backup.id
    assert operations(store, "multipart") == operations(store, "complete") == 1
    assert store.stale_uploads("") == []
    assert node.spool.entries() == []
    total, done = shown.phases["upload"]
    assert total == done == report.backup.stored.bytes, "what was done before is shown too"


def test_several_repositories_are_each_begun(node: Node, store: FaultyStore) -> None:
    other = FaultyStore(MemoryStore("two"))
    assert node.run(source(store, other), store, other).failed == {}
    assert whole(store)
    assert whole(other)


def test_the_object_appears_only_when_the_spool_is_complete(node: Node, store: FaultyStore) -> None:
    seen = []
    cluster = source(store)
    waits = cluster.before_piece

    def look(number: int) -> None:
        waits(number)
        seen.append([info.key for info in store.list("")])

    cluster.before_piece = look
    node.run(cluster, store)
    assert seen == [[]] * 4


def begins_at_the_end(node: Node, cluster: FakeSource, store: FaultyStore) -> None:
    """Nothing reaches the store while the snapshot streams, which the third piece has had time to see."""
    seen = []
    cluster.before_piece = lambda number: seen.append(list(store.operations)) if number > 2 else None
    node.run(cluster, store)
    assert seen == [[], []]
    assert whole(store)


def test_a_cluster_that_is_written_to_is_uploaded_at_the_end(node: Node, store: FaultyStore) -> None:
    cluster = source()
    cluster.revisions = itertools.count(REVISION)
    begins_at_the_end(node, cluster, store)


def test_a_small_database_is_worth_no_question(node: Node, store: FaultyStore) -> None:
    cluster = source()
    cluster.members = fake_members()
    begins_at_the_end(node, cluster, store)
    assert next(cluster.revisions) == REVISION
    assert operations(store, "multipart") == 1, "the status was old"


@pytest.mark.parametrize("call", [1, 2])
def test_a_member_that_gives_no_second_status_costs_no_backup(
    node: Node, store: FaultyStore, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = source()
    calls = itertools.count(1)
    status = cluster.status

    def failing(endpoint: str) -> Any:
        if next(calls) == call:
            raise EtcdUnreachable("gone", hint="none")
        return status(endpoint)

    monkeypatch.setattr(cluster, "status", failing)
    begins_at_the_end(node, cluster, store)


def test_a_snapshot_of_another_revision_gets_an_id_of_its_own(node: Node, store: FaultyStore) -> None:
    with capture_logs() as logs:
        report = node.run(source(store, revision=REVISION - 1), store)
    assert report.backup.snapshot.revision == REVISION
    assert f"-r{REVISION:020d}-" in report.backup.id
    assert whole(store)
    assert store.stale_uploads("") == []
    assert {info.key.split("/")[2] for info in store.list("prod/backups/")} == {report.backup.id}
    (told,) = [entry for entry in logs if entry["event"] == "backup.early_upload_wrong"]
    assert (told["expected"], told["revision"]) == (REVISION - 1, REVISION)


def breaking(cluster: FakeSource) -> None:
    cluster.before_piece, waits = lambda number: fail_at(number, waits), cluster.before_piece

    def fail_at(number: int, before: Callable[[int], None]) -> None:
        before(number)
        if number == 4:
            raise SnapshotFailed("it broke", hint="none")


def lying(cluster: FakeSource) -> None:
    cluster.trailer = bytes(32)


@pytest.mark.parametrize(("spoil", "error"), [(breaking, SnapshotFailed), (lying, Corruption)])
def test_what_never_becomes_whole_is_taken_back(
    node: Node, store: FaultyStore, spoil: Callable[[FakeSource], None], error: type[Exception]
) -> None:
    cluster = source(store)
    spoil(cluster)
    with pytest.raises(error):
        node.run(cluster, store)
    assert list(store.list("")) == []
    assert store.stale_uploads("") == []
    assert node.spool.entries() == []


def test_a_repository_that_fails_early_fails_alone_and_gets_it_by_the_next_run(
    node: Node, store: FaultyStore
) -> None:
    inner = MemoryStore("two")
    denied = FaultyStore(inner, [Rule(Fault.DENIED, "write_part", skip=1)])
    report = node.run(source(store), store, denied)
    assert isinstance(report.failed["two"], AccessDenied)
    assert whole(store)
    assert inner.stale_uploads("") == []
    assert list(inner.list("")) == []
    (delivery,) = node.job(source(), store, inner).ship()
    assert delivery.failed == {}
    assert whole(inner)


def test_no_repository_in_reach_leaves_it_in_the_spool(node: Node, store: FaultyStore) -> None:
    down = FaultyStore(MemoryStore("one"), [Rule(Fault.TIMEOUT, "multipart", times=None)])
    with pytest.raises(RepositoryError, match="no repository took the backup"):
        node.run(source(), down)
    assert [entry.backup() is not None for entry in node.spool.entries()] == [True]
    node.job(source(), store).ship()
    assert whole(store)


def test_one_that_could_not_be_reached_before_is_not_asked_again(node: Node, store: FaultyStore) -> None:
    """While the older backup was shipped."""
    with pytest.raises(RepositoryError):
        node.run(source(), FaultyStore(MemoryStore("two"), [Rule(Fault.TIMEOUT, "multipart")]))
    two = FaultyStore(MemoryStore("two"), [Rule(Fault.TIMEOUT, "multipart", times=None)])
    report = node.run(source(store), store, two)
    assert set(report.failed) == {"two"}
    assert operations(two, "multipart") == 0
    assert operations(two, "write_part") == 0
    assert whole(store)


def test_stores_that_cannot_be_made_leave_nothing_behind(
    node: Node, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = node.job(source(), store)

    def shipper() -> Any:
        raise ConfigError("no such region", hint="name one")

    monkeypatch.setattr(job, "_shipper", shipper)
    with pytest.raises(ConfigError):
        job.run()
    assert node.spool.entries() == []


def test_a_slot_that_another_has_takes_back_what_was_begun(node: Node, store: FaultyStore) -> None:
    slot = "2026-11-21T02:00:00Z"
    catalog_of(store).ledger.decide(
        slot, "20261121T020000Z-r00000000000000007-0a0a0a0a", node="n", at=node.clock.now()
    )
    node.options = {"slot": slot}
    report = node.run(source(store), store)
    assert report.delivery.superseded_by is not None
    assert list(store.list("prod/backups/")) == []
    assert store.stale_uploads("") == []


def test_what_may_not_be_taken_back_is_told_and_fails_nothing(node: Node) -> None:
    denied = FaultyStore(MemoryStore("one"), [Rule(Fault.DENIED, "delete", times=None)])
    other, slot = "20261121T020000Z-r00000000000000007-0a0a0a0a", "2026-11-21T02:00:00Z"
    catalog_of(denied).ledger.decide(slot, other, node="n", at=node.clock.now())
    node.options = {"slot": slot}
    with capture_logs() as logs:
        report = node.run(source(denied), denied)
    assert (report.delivery.superseded_by, report.failed) == (other, {})
    (left,) = [one for one in logs if one["event"] == "backup.object_left"]
    assert (left["repository"], left["backup"]) == ("one", report.backup.id)
    assert node.spool.entries() == []


def test_nothing_begins_once_the_end_has_come(tmp_path: Path) -> None:
    """The end comes just when the object has grown enough."""
    path = tmp_path / "object"
    path.write_bytes(bytes(PART + 1))
    ended = threading.Event()

    class Late(GrowingObject):
        def exceeds(self, size: int) -> bool:
            found = super().exceeds(size)
            assert early.settle(REVISION) is None
            ended.set()
            return found

    begun: list[BackupId] = []

    def begin(backup_id: BackupId, source: GrowingObject) -> Begun:
        begun.append(backup_id)
        return Begun(backup_id, source, {})

    with EarlyUpload() as early:
        backup_id = BackupId.parse("20261121T020000Z-r00000000000000000020-0a0a0a0a")
        early.prepare(Late(path), lambda: backup_id, begin)
        early.grown()
        assert ended.wait(60)
    assert begun == []


def test_of_what_a_dead_run_had_begun_nothing_stays(node: Node, store: FaultyStore) -> None:
    """Its entry is incomplete, and worth nothing; its upload costs money until somebody aborts it."""
    with node.spool.locked():
        entry = node.spool.new_entry()
        entry.create().close()
        key = "prod/backups/20261121T020000Z-r00000000000000007-0a0a0a0a/snapshot.db.zst.age"
        entry.begin_upload(key)
    for one in (key, key.replace("prod", "staging")):
        store.multipart(one).write_part(1, b"x")
    node.run(source(), store)
    assert [upload.key for upload in store.stale_uploads("")] == [key.replace("prod", "staging")]
    assert node.spool.entries() == []


def test_a_repository_that_will_not_forget_stops_nothing(node: Node, store: FaultyStore) -> None:
    with node.spool.locked():
        entry = node.spool.new_entry()
        entry.create().close()
        entry.begin_upload("prod/backups/x")
    denied = FaultyStore(MemoryStore("one"), [Rule(Fault.DENIED, "stale_uploads", key="prod/backups/x")])
    with capture_logs() as logs:
        assert node.run(source(denied), denied).failed == {}
    assert node.spool.entries() == []
    assert [one["repository"] for one in logs if one["event"] == "upload.abort_failed"] == ["one"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_step(tmp_path: Path, when: Any) -> None:
    """Of the disk or of the store, from the first part on to the end."""
    wrong: list[str] = []
    orphans = 0
    for point in itertools.count(1):
        store = MemoryStore("one")
        node = Node(tmp_path / str(point))
        node.spool_path.mkdir()
        fuse = Fuse(point, when)
        crashing = CrashingStore(store, fuse)
        cluster = source()

        def wait(number: int, crashing: CrashingStore = crashing, fuse: Fuse = fuse) -> None:
            if number == 4:
                eventually(
                    lambda: fuse.burnt or operations(crashing, "write_part") >= 3, "it dies or uploads"
                )

        cluster.before_piece = wait
        with pytest.MonkeyPatch.context() as patch:
            count_disk_steps(patch, fuse)
            try:
                node.run(cluster, crashing)
            except SimulatedCrash:
                pass
            else:
                break
        complete = [entry for entry in node.spool.entries() if entry.backup() is not None]
        orphans += not complete and bool(store.stale_uploads(""))
        node.job(source(), store).ship()
        listing = catalog_of(store).list()
        wrong += [f"{point}: {problem.id}: {problem.error}" for problem in listing.problems]
        wrong += [f"{point}: {text}" for text in chain_problems(listing)]
        wrong += [f"{point}: upload of {upload.key} is left" for upload in store.stale_uploads("")]
        if node.spool.entries() or (complete and not whole(store)):
            wrong.append(f"{point}: it is lost")
    assert wrong == []
    assert orphans >= 3, "some of these crashes leave an upload whose snapshot is worth nothing"
    assert point > 30
