"""Three made-up hosts with directories, services and journals of their own, and an orchestrator over them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from etcdguard.catalog import Backup
from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, Refused
from etcdguard.etcd.tools import Tool
from etcdguard.restore.by_host import ByHost, Elsewhere
from etcdguard.restore.crew import Crew, NoWatcher, Orders, Watcher
from etcdguard.restore.environment import Environment
from etcdguard.restore.hosts import Host, LocalHost, Site, sites_of
from etcdguard.restore.machine import Filesystem, Machine
from etcdguard.restore.node import Node
from etcdguard.restore.orchestrate import After, Orchestrator
from etcdguard.restore.plan import ControlPlaneSpec, PlannedMember, RestorePlan, ServiceSpec
from etcdguard.restore.planner import Choices, MemberSpec, make_plan
from etcdguard.restore.result import ClusterResult
from etcdguard.restore.services import NodeServices
from etcdguard.restore.steps import StepAnswer, StepRequest
from etcdguard.restore.telling import Tell
from tests.support.restores import NOW, SteppingClock, make_manifest
from tests.unit.restore.world import SNAPSHOT, nobody, read_ids, write_members

__all__ = ["HOSTS", "TOOL", "VERSION", "FakeService", "Fleet"]

HOSTS = ("cp1", "cp2", "cp3")
VERSION = "1.2.3"
TOOL = Tool(Path("/usr/bin/etcdutl"), (3, 5, 26), "etcdutl")
_GIB = 1024**3


class FakeService:
    """A service whose whole state is two files, so that it outlives the process of a test."""

    def __init__(self, folder: Path, name: str, before_stop: Callable[[], None]) -> None:
        self.name = name
        self._running = folder / f"{name}.running"
        self._held = folder / f"{name}.held"
        self._before_stop = before_stop

    def check(self) -> None:
        if (self._running.parent / f"{self.name}.unknown").exists():
            raise Refused(f"systemd cannot load {self.name}", hint="x")

    def is_running(self) -> bool:
        return self._running.exists()

    def stop(self) -> None:
        self._before_stop()
        self._held.touch()
        self._running.unlink(missing_ok=True)

    def release(self) -> None:
        self._held.unlink(missing_ok=True)

    def start(self) -> None:
        self.release()
        self._running.touch()


@dataclass
class FaultyHost:
    """A host between which and the orchestrator something can happen: see ``Fleet.fault``."""

    inner: Host
    fleet: Fleet

    @property
    def name(self) -> str:
        return self.inner.name

    def run(self, request: StepRequest, timeout: float, tell: Tell | None = None) -> StepAnswer:
        self.fleet.fault(self.name, request.step, "before")
        answer = self.inner.run(request, timeout, tell)
        self.fleet.fault(self.name, request.step, "after")
        return answer

    def interrupt(self) -> None:
        self.inner.interrupt()

    def close(self) -> None:
        self.inner.close()


def _no_fault(host: str, step: str, when: str) -> None:
    del host, step, when


@dataclass
class Fleet:
    """``root/<host>`` has ``data``, ``services`` and ``state``; ``root/orchestrator`` the plan's journal."""

    root: Path
    plan: RestorePlan
    served: bool
    fault: Callable[[str, str, str], None] = _no_fault
    """Called with host, step and ``before`` or ``after``; may raise what the orchestrator would meet."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What is different in every host's environment."""
    unprovable: str | None = None
    backup: Callable[[], str] | None = None
    watcher: Watcher = field(default_factory=NoWatcher)
    by_host: bool = False
    """No machine reaches all hosts: see ``part``."""
    mounts: frozenset[Path] = frozenset()
    """Directories that are mount points."""
    recorded: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def make(cls, root: Path, *, served: bool = True, user: str | None = None) -> Fleet:
        """Running hosts, where they are served; ``user`` owns what is restored."""
        fleet = cls(root, _plan(root, served, user), served)
        for number, host in enumerate(HOSTS, 1):
            db = fleet.data(host) / "member" / "snap" / "db"
            db.parent.mkdir(parents=True)
            db.write_text(f"old data of m{number}")
            (root / host / "services").mkdir()
            if served:
                for service in fleet.services(host).all:
                    service.start()
        return fleet

    @classmethod
    def make_again(cls, other: Fleet) -> Fleet:
        """The same hosts as they are now, with another plan."""
        return cls(other.root, _plan(other.root, other.served), other.served)

    def data(self, host: str) -> Path:
        return self.root / host / "data" / "etcd"

    def services(self, host: str) -> NodeServices:
        folder = self.root / host / "services"

        def nothing_uses_etcd() -> None:
            hosts = (host,) if self.by_host else HOSTS
            running = [
                path for other in hosts for path in (self.root / other / "services").glob("kube-*.running")
            ]
            assert not running, "etcd is stopped while an API server runs"

        return NodeServices(
            FakeService(folder, "etcd.service", nothing_uses_etcd),
            (FakeService(folder, "kube-apiserver.service", lambda: None),),
            None,
        )

    def node(self, host: str) -> Node:
        folder = self.root / host
        machine = Machine(
            filesystem=lambda _: Filesystem(device=1, free_bytes=_GIB),
            listening=lambda *_: False,
            holders=lambda _: ("etcd (pid 7)",) if self.services(host).etcd.is_running() else (),
            is_mount=lambda path: path in self.mounts,
            memory=lambda: _GIB,
            uid=0,
            cpus=2,
        )

        @contextmanager
        def environment(request: StepRequest, plan: RestorePlan) -> Iterator[Environment]:
            defaults: dict[str, Any] = {
                "backup": Backup(make_manifest(), b"", "valid", "sha256:signer"),
                "fetch": lambda: iter([SNAPSHOT]),
                "tool": TOOL,
                "endpoints": (),
                "linearizable_read": nobody,
                "machine": machine,
                "run_commands": lambda commands, _: write_members(plan, commands),
                "read_wal": read_ids,
            }
            yield Environment(**{**defaults, **self.environment})

        def services(member: PlannedMember, plan_id: str) -> NodeServices | None:
            del plan_id
            return self.services(host) if member.service is not None else None

        return Node(VERSION, folder / "state", SteppingClock(), environment, services, machine, read_ids)

    def orchestrator(self) -> Orchestrator:
        self.by_host = False
        sites = sites_of(
            self.plan, "here", lambda name, _: FaultyHost(LocalHost(name, self.node(name)), self)
        )
        crew = Crew(self.plan, sites, VERSION, SteppingClock(), self.watcher, Orders())
        return Orchestrator(
            self.plan,
            crew,
            self.root / "orchestrator",
            SteppingClock(),
            NoWatcher(),
            After(self._prove, self.recorded.append, self.backup),
        )

    def part(self, host: str) -> ByHost:
        """One host's part of the plan, done there by the operator."""
        self.by_host = True
        member = next(one for one in self.plan.members if one.host == host)
        site = Site(FaultyHost(LocalHost(host, self.node(host)), self), (member.name,))
        clock = SteppingClock()
        return ByHost(
            self.plan,
            Crew(self.plan, (site,), VERSION, clock, NoWatcher(), Orders()),
            self.root / host / "state",
            clock,
            NoWatcher(),
            After(self._prove_whole, self.recorded.append, self.backup),
            Elsewhere(lambda one: self.cluster_of(str(one.host)), self._serves),
        )

    def cluster_of(self, host: str) -> str | None:
        """The cluster that runs there; None where nothing does."""
        if not self.services(host).etcd.is_running():
            return None
        new = "new" in (self.data(host) / "member" / "snap" / "db").read_text()
        return self.plan.cluster_id if new else self.plan.old_cluster_id

    def _serves(self, member: PlannedMember) -> bool:
        clusters = [self.cluster_of(host) for host in HOSTS]
        mine = self.cluster_of(str(member.host))
        return mine is not None and clusters.count(mine) >= 2

    def _prove_whole(self) -> dict[str, Any]:
        if self.served and {self.cluster_of(host) for host in HOSTS} != {self.plan.cluster_id}:
            raise ClusterUnhealthy("not proven: members", hint="wait")
        return self._prove()

    def run(self) -> ClusterResult:
        return self.orchestrator().run({})

    def roll_back(self) -> None:
        self.orchestrator().roll_back()

    def _prove(self) -> dict[str, Any]:
        if self.unprovable is not None:
            raise ClusterUnhealthy(self.unprovable, hint="x")
        self.assert_restored(reopened=False)
        return {"leader": "m1"}

    # -- looking -----------------------------------------------------------------------------------------

    def picture(self) -> dict[str, str]:
        """Everything on the hosts but their journals: path to content, with an empty text for folders."""
        return {
            str(path.relative_to(self.root)): path.read_text() if path.is_file() else ""
            for host in HOSTS
            for part in ("data", "services")
            for path in (self.root / host / part).rglob("*")
        }

    def assert_restored(self, *, reopened: bool = True) -> None:
        for number, host in enumerate(HOSTS, 1):
            db = self.data(host) / "member" / "snap" / "db"
            assert db.read_text() == f"new data of m{number}"
            if self.served:
                assert self.services(host).etcd.is_running()
                if reopened:
                    assert all(service.is_running() for service in self.services(host).all)
        assert not [path for path in self.picture() if reopened and path.endswith(".held")]


def _plan(root: Path, served: bool, user: str | None = None) -> RestorePlan:
    specs = [
        MemberSpec(
            f"m{number}",
            (f"http://10.0.0.{number}:2380",),
            (f"http://10.0.0.{number}:2379",),
            host=host,
            data_dir=str(root / host / "data" / "etcd"),
            service=ServiceSpec(kind="systemd", unit="etcd.service", user=user) if served else None,
            control_plane=ControlPlaneSpec(units=("kube-apiserver.service",)) if served else None,
        )
        for number, host in enumerate(HOSTS, 1)
    ]
    return make_plan(
        make_manifest(), specs, Choices(), TOOL, node="here", now=NOW, token_hex=secrets.token_hex
    )


def lost(*_: object) -> EtcdGuardError:
    return EtcdGuardError("the connection is lost", hint="x")
