"""A cluster, a service and a machine for tests of replacing a member; files are real ones."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.wal import WalMetadata, read_wal_metadata
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus
from etcdguard.restore.machine import Filesystem, Machine
from etcdguard.restore.planner import MemberSpec
from etcdguard.restore.replace.environment import ReplaceEnvironment
from etcdguard.restore.replace.plan import ReplacePlan, make_plan
from etcdguard.restore.replace.preflight import check_ready
from tests.support.restores import NOW, SteppingClock

NAMES = ("m1", "m2", "m3")
NEW = "e3"


def url(name: str, port: int) -> str:
    return f"http://10.0.0.{name[-1]}:{port}"


def member(name: str, member_id: str | None = None, *, learner: bool = False, started: bool = True) -> Member:
    return Member(
        id=member_id or f"a{name[-1]}",
        name=name if started else "",
        peer_urls=(url(name, 2380),),
        client_urls=(url(name, 2379),) if started else (),
        is_learner=learner,
    )


def topology(*members: Member) -> ClusterTopology:
    return ClusterTopology("cafe", members)


WHOLE = topology(*map(member, NAMES))
REMOVED = topology(member("m1"), member("m2"))
ADDED = topology(member("m1"), member("m2"), member("m3", NEW, learner=True, started=False))
JOINED = topology(member("m1"), member("m2"), member("m3", NEW, learner=True))
DONE = topology(member("m1"), member("m2"), member("m3", NEW))


class FakeCluster:
    """Members m1 and m2 run; m3 does when ``running``. Changes happen at once, or as told."""

    def __init__(self) -> None:
        self.now = WHOLE
        self.up = {"m1", "m2"}
        self.quorum = True
        self.clusters: dict[str, str] = {}
        self.refusals: list[EtcdGuardError] = []
        self.hashes = dict.fromkeys(NAMES, 7)
        self.calls: list[str] = []

    def _name(self, endpoint: str) -> str:
        return next(name for name in NAMES if url(name, 2379) == endpoint)

    def _id(self, name: str) -> str:
        return next((one.id for one in self.now.members if one.name == name), f"a{name[-1]}")

    def status(self, endpoint: str) -> MemberStatus:
        name = self._name(endpoint)
        if name not in self.up:
            raise EtcdUnreachable(f"{endpoint}: connection refused", hint="start it")
        return MemberStatus(
            endpoint=endpoint,
            cluster_id=self.clusters.get(name, "cafe"),
            member_id=self._id(name),
            version="3.5.30",
            storage_version=None,
            db_size=1,
            db_size_in_use=1,
            db_size_quota=None,
            leader_id="a1",
            raft_term=1,
            raft_index=1,
            raft_applied_index=1,
            is_learner=False,
            errors=(),
            revision=10,
        )

    def linearizable_read(self, endpoint: str) -> None:
        self.status(endpoint)
        if not self.quorum:
            raise ClusterUnhealthy(f"{endpoint}: no leader", hint="wait")

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        assert endpoint is not None
        name = self._name(endpoint)
        if name in self.clusters:
            return ClusterTopology(self.clusters[name], (member(name),))
        return self.now

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        return HashKV(hash=self.hashes[self._name(endpoint)], revision=revision, compact_revision=1)

    def _change(self, call: str, now: ClusterTopology) -> None:
        self.calls.append(call)
        if self.refusals:
            raise self.refusals.pop(0)
        self.now = now

    def add_learner(self, endpoint: str, peer_urls: Sequence[str]) -> str:
        assert tuple(peer_urls) == (url("m3", 2380),)
        self._change("add", ADDED)
        return NEW

    def remove_member(self, endpoint: str, member_id: str) -> None:
        assert member_id == "a3"
        self._change("remove", REMOVED)

    def promote_member(self, endpoint: str, member_id: str) -> None:
        assert member_id == NEW
        self._change("promote", DONE)


@dataclass
class FakeService:
    """Runs m3: as the member its log says, which joins at once."""

    cluster: FakeCluster
    data_dir: Path
    running: bool = True
    calls: list[str] = field(default_factory=list)
    name: str = "etcd.service"
    problem: EtcdGuardError | None = None

    def check(self) -> None:
        if self.problem is not None:
            raise self.problem

    def is_running(self) -> bool:
        return self.running

    def stop(self) -> None:
        self.calls.append("stop")
        self.running = False

    def release(self) -> None:
        raise AssertionError("nobody asked for it")

    def start(self) -> None:
        self.calls.append("start")
        self.running = True
        ids = read_wal_metadata(self.data_dir / "member" / "wal")
        assert ids == WalMetadata(NEW, "cafe")
        self.cluster.up.add("m3")
        self.cluster.now = JOINED


class World:
    """A lost m3 with old files, on a machine whose time passes with sleep."""

    def __init__(self, root: Path) -> None:
        self.data_dir = root / "etcd"
        (self.data_dir / "member" / "wal").mkdir(parents=True)
        (self.data_dir / "member" / "old").write_text("old data")
        self.cluster = FakeCluster()
        self.service: FakeService | None = FakeService(self.cluster, self.data_dir)
        self.state_dir = root / "state"
        self.told: list[str] = []
        self.listening: set[tuple[str, int]] = set()
        self.holders: tuple[str, ...] = ()
        self.mounts: set[Path] = set()
        self.machine = Machine(
            filesystem=lambda _: Filesystem(1, 1),
            listening=lambda host, port: (host, port) in self.listening,
            holders=lambda _: self.holders,
            is_mount=lambda path: path in self.mounts,
            memory=lambda: 0,
            uid=os.geteuid(),
            cpus=1,
        )
        self.endpoints = (url("m1", 2379), url("m2", 2379))

    def plan(self, seen: ClusterTopology = WHOLE, **changes: Any) -> ReplacePlan:
        spec = MemberSpec("m3", (url("m3", 2380),), (url("m3", 2379),), data_dir=str(self.data_dir))
        options: dict[str, Any] = {
            "cluster_name": "prod",
            "data_dir": None,
            "wal_dir": None,
            "node": "host3",
            "is_mount": self.machine.is_mount,
            "is_here": lambda _: True,
            "now": NOW,
            "token_hex": secrets.token_hex,
        }
        name = changes.pop("name", "m3")
        return make_plan(name, changes.pop("spec", spec), seen, **(options | changes))

    def environment(self, **changes: Any) -> ReplaceEnvironment:
        options: dict[str, Any] = {
            "cluster": self.cluster,
            "endpoints": self.endpoints,
            "service": self.service,
            "state_dir": self.state_dir,
            "clock": SteppingClock(),
            "sleep": lambda _: None,
            "tell": self.told.append,
            "machine": self.machine,
        }
        return ReplaceEnvironment(**(options | changes))

    def findings(self, plan: ReplacePlan | None = None, *, resumed: bool = False) -> list[EtcdGuardError]:
        made = plan or self.plan()
        return list(check_ready(made, self.cluster.now, self.environment(), resumed=resumed))
