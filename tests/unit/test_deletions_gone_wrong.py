"""Deletions that went wrong elsewhere, one test each, named after the report: here they cannot happen."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from etcdguard.catalog import Catalog
from etcdguard.errors import RepositoryError
from etcdguard.prune import Limits, Pruner, PruneResult
from etcdguard.retention import Policy
from etcdguard.storage.base import ObjectInfo, RepositoryStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import (
    CLUSTER,
    SIGNER,
    TRUSTED,
    ManualClock,
    Node,
    catalog_of,
    database,
    violations,
)
from tests.support.fake_source import FakeSource, fake_members
from tests.support.faulty_store import Fault, FaultyStore, Operation, Rule

T = TypeVar("T")

DAY = timedelta(days=1)


class Scene:
    """A repository that several nodes of one cluster write to, and whoever prunes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = ManualClock()
        self.store = MemoryStore("one", now=self.clock.now)

    def node(self, name: str = "cp1", cluster: str = CLUSTER) -> Node:
        return Node(self.folder / cluster / name, clock=self.clock, cluster=cluster)

    def backup(self, revision: int, node: Node | None = None) -> str:
        made = (node or self.node()).backup(revision, self.store).backup.id
        self.clock.moment += DAY
        return made

    def prune(
        self, policy: Policy, *, store: RepositoryStore | None = None, cluster: str = CLUSTER
    ) -> PruneResult:
        """By a node of that cluster; as much as the policy lets go of."""
        used = store or self.store
        catalog = Catalog(used, cluster, TRUSTED)
        pruner = Pruner(
            catalog,
            used,
            policy,
            must_be_signed=True,
            record=lambda facts: catalog.trail.record(
                "prune", facts, at=self.clock.now(), actor="cp1", signer=SIGNER
            ),
            limits=Limits(max_fraction=1.0),
        )
        now = self.clock.now()
        return pruner.execute(pruner.plan(now), now)

    def listed(self, cluster: str = CLUSTER) -> list[str]:
        return [backup.id for backup in Catalog(self.store, cluster, TRUSTED).list().backups]

    def stored(self, prefix: str = f"{CLUSTER}/backups/") -> list[str]:
        return [info.key for info in self.store.list(prefix)]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# -- WAL-G #636: retention ordered by name deleted the newest ----------------------------------------------


def test_wal_g_636_the_newest_is_not_told_by_its_name(scene: Scene) -> None:
    """A clock that was set back by a year gives the newest backup the name that sorts first."""
    before = [scene.backup(revision) for revision in (20, 21, 22)]
    scene.clock.moment -= 365 * DAY
    newest = scene.backup(23)
    scene.clock.moment += 365 * DAY
    assert newest < min(before)
    for policy in (Policy(keep_last=1), Policy(keep_daily=1), Policy(keep_yearly=1)):
        scene.prune(policy)
        assert newest in scene.listed()
    scene.prune(Policy(keep_last=1))
    assert scene.listed() == [newest]
    assert violations(scene.store) == []


# -- barman #1081: the minimum was made up of what cannot be restored by itself ----------------------------


def _stop_being_whole(scene: Scene, backup_id: str, how: str) -> None:
    layout = catalog_of(scene.store).layout
    manifest = layout.manifest(backup_id)
    if how == "object missing":
        scene.store.delete(layout.absolute(layout.snapshot(backup_id, encrypted=True)))
    elif how == "object cut short":
        scene.store.put(layout.absolute(layout.snapshot(backup_id, encrypted=True)), b"half")
    elif how == "manifest damaged":
        scene.store.put(manifest, b"".join(scene.store.get(manifest))[:-10])
    elif how == "of a newer format":
        document = json.loads(b"".join(scene.store.get(manifest)))
        scene.store.put(manifest, json.dumps({**document, "format": "etcdguard/2"}).encode())
    elif how == "not signed":
        scene.store.delete(layout.signature(backup_id))
    else:
        assert how == "not committed"
        scene.store.delete(manifest)


@pytest.mark.parametrize(
    "how",
    [
        "object missing",
        "object cut short",
        "manifest damaged",
        "of a newer format",
        "not signed",
        "not committed",
    ],
)
@pytest.mark.parametrize("policy", [Policy(keep_last=2), Policy(keep_daily=2), Policy(keep_within=None)])
def test_barman_1081_only_whole_backups_make_up_the_minimum(scene: Scene, how: str, policy: Policy) -> None:
    ids = [scene.backup(revision) for revision in range(20, 25)]
    for backup_id in ids[3:]:
        _stop_being_whole(scene, backup_id, how)
    scene.prune(policy)
    assert set(ids[1:3]) <= set(scene.listed())
    if not policy.keeps_all:
        assert ids[0] not in scene.listed()


def test_barman_1081_only_proven_backups_make_up_the_verified_minimum(scene: Scene) -> None:
    ids = [scene.backup(revision) for revision in range(20, 26)]
    trail = catalog_of(scene.store).trail
    for number, level, outcome in (
        (0, "data", "ok"),
        (1, "drill", "ok"),
        (2, "manifest", "ok"),
        (3, "data", "failed"),
    ):
        results = [{"id": ids[number], "level": level, "outcome": outcome}]
        trail.record("verify", {"results": results}, at=scene.clock.now(), actor="n", signer=SIGNER)
    scene.prune(Policy(keep_last=1, min_verified=2))
    assert scene.listed() == [ids[0], ids[1], ids[5]]


# -- k3s #9866: every node applied its count to the backups of all -----------------------------------------


def test_k3s_9866_nodes_that_all_prune_keep_as_much_as_one(scene: Scene) -> None:
    """The count is of the cluster's backups, whoever took them, and asking thrice deletes no more."""
    nodes = [scene.node(name) for name in ("cp1", "cp2", "cp3")]
    ids = [scene.backup(20 + number, nodes[number % 3]) for number in range(9)]
    for _ in nodes:
        scene.prune(Policy(keep_last=4))
        assert scene.listed() == ids[-4:]
    assert violations(scene.store) == []


# -- borg #241: a prune that named nobody hit the backups of other hosts -----------------------------------


@pytest.mark.parametrize("other", ["prod-2", "pro", "prod.backup", "PROD", "a"])
def test_borg_241_other_clusters_are_out_of_reach(scene: Scene, other: str) -> None:
    theirs = scene.node(cluster=other)
    their_ids = [scene.backup(revision, theirs) for revision in (30, 31, 32)]
    ids = [scene.backup(revision) for revision in (20, 21, 22)]
    before = scene.stored(f"{other}/")
    scene.clock.moment += 2 * DAY
    scene.store.put(f"{other}/backups/{their_ids[0][:-8]}00000000/snapshot.db.zst.age", b"in the making")
    scene.clock.moment += 2 * DAY
    touched = FaultyStore(scene.store)
    scene.prune(Policy(keep_last=1), store=touched)
    assert scene.listed() == ids[-1:]
    assert scene.listed(other) == their_ids
    assert set(before) < set(scene.stored(f"{other}/"))
    assert [key for operation, key in touched.operations if key.startswith(f"{other}/")] == []


def test_borg_241_a_cluster_that_was_replaced_keeps_its_own(scene: Scene) -> None:
    """The same name, another etcd: the new one's backups do not push the old one's out."""
    members = [replace(member, cluster_id="c2") for member in fake_members()]
    old = [scene.backup(revision) for revision in (20, 21, 22)]
    for revision in (5, 6, 7):
        newest = scene.node().run(FakeSource(database(revision), members), scene.store).backup.id
        scene.clock.moment += DAY
    scene.prune(Policy(keep_last=1))
    assert scene.listed() == [old[-1], newest]


# -- pgBackRest #2622: expire deleted what another node was in the midst of --------------------------------


class Meanwhile(FaultyStore):
    """Somebody else does something just before every operation."""

    def __init__(self, inner: RepositoryStore, doing: Callable[[], object]) -> None:
        super().__init__(inner)
        self._doing = doing
        self.times = 0

    def perform(self, operation: Operation, key: str, action: Callable[[], T]) -> T:
        self.times += 1
        self._doing()
        return super().perform(operation, key, action)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        self._doing()
        return super().list(prefix)


@pytest.mark.parametrize("policy", [Policy(keep_last=1), Policy(keep_daily=1)])
def test_pgbackrest_2622_a_backup_in_the_making_is_left_alone(scene: Scene, policy: Policy) -> None:
    """Pruned before every single step of another node's backup, which must be whole in the end."""
    for revision in (20, 21, 22):
        scene.backup(revision)
    store = Meanwhile(scene.store, lambda: scene.prune(policy))
    made = scene.node("cp2").backup(30, store)
    assert made.failed == {}
    assert store.times > 5
    assert scene.listed()[-1] == made.backup.id
    assert violations(scene.store) == []


def test_pgbackrest_2622_nor_is_an_upload_of_parts(scene: Scene) -> None:
    scene.backup(20)
    key = f"{CLUSTER}/backups/20261121T020000Z-r00000000000000000030-00000000/snapshot.db.zst.age"
    writer = scene.store.multipart(key)
    writer.write_part(1, b"first")
    for hours in (0, 12, 11):
        scene.clock.moment += timedelta(hours=hours)
        scene.prune(Policy(keep_last=1))
    writer.write_part(2, b"second")
    assert writer.complete().size == len(b"firstsecond")


# -- restic #4612: a LIST that failed was read as "no files" -----------------------------------------------


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.CUT_SHORT, Fault.DENIED])
def test_restic_4612_a_listing_that_fails_is_not_an_empty_one(scene: Scene, fault: Fault) -> None:
    """Whichever of its listings fails: of backups (whose objects would be orphans), holds, events, slots."""
    for revision in range(20, 25):
        scene.backup(revision)
    scene.clock.moment += 3 * DAY  # everything is old enough to be an orphan
    before = scene.stored("")
    watched = FaultyStore(scene.store)
    pruner = Pruner(
        catalog_of(watched), watched, Policy(keep_last=2), must_be_signed=True, record=lambda facts: None
    )
    pruner.plan(scene.clock.now())
    listings = [key for operation, key in watched.operations if operation == "list"]
    assert len(listings) > 3
    for skip in range(len(listings)):
        with pytest.raises(RepositoryError):
            scene.prune(Policy(keep_last=2), store=FaultyStore(scene.store, [Rule(fault, "list", skip=skip)]))
        assert scene.stored("") == before
