"""A week of three daemons in simulated time: real snapshots of a real cluster, everything else goes wrong.

The daemons, the slots, the backups, the spools and the ledger are the real ones. Simulated are the clock, the
election (a lease that follows that clock) and the wires: each node loses etcd, its repository or its life now
and then, a paused node wakes with a job half done, and sometimes two nodes believe to lead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from etcdguard.backup.due import DueBackup
from etcdguard.daemon.engine import Daemon
from etcdguard.daemon.jobs import Job
from etcdguard.daemon.runner import Result
from etcdguard.daemon.state import Role
from etcdguard.errors import EtcdGuardError, EtcdUnreachable, Locked, StoreUnavailable
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.slots import parse_schedule, slot_id
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, Node, catalog_of, chain_problems
from tests.support.faulty_store import FaultyStore
from tests.support.simulation import SimulatedClock, SimulatedElection

START = datetime(2026, 3, 26, 0, 0, 30, tzinfo=timezone.utc)  # a week with the change to summer time
SCHEDULE = parse_schedule(["1h"])
STEP = timedelta(minutes=5)
LEASE = 15.0
WEEK = timedelta(days=7)
SEED = 20260326


@dataclass
class Lease:
    """The lock in etcd, by a clock that is everybody's."""

    holder: int | None = None
    until: float = 0.0

    def ask(self, node: int, now: float) -> bool:
        if self.holder != node and now < self.until:
            return False
        self.holder, self.until = node, now + LEASE
        return True


class Wire(FaultyStore):
    """A node's way to the repository."""

    cut = False

    def perform(self, operation: Any, key: str, act: Any) -> Any:
        if self.cut:
            raise StoreUnavailable("the repository is out of reach", hint="wait")
        return super().perform(operation, key, act)


class CutOff:
    """A node's way to etcd: the real client, or nobody."""

    def __init__(self, client: EtcdClient, cut: Callable[[], bool]) -> None:
        self._client = client
        self._cut = cut

    def __getattr__(self, name: str) -> Any:
        if self._cut():
            raise EtcdUnreachable("etcd is out of reach", hint="wait")
        return getattr(self._client, name)


@dataclass
class Started:
    """A command that does its work when it is first looked at: a node that was paused does it late."""

    work: Callable[[], Result]

    def poll(self) -> Result | None:
        return self.work()

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass
class Machine:
    """One node. Its spool outlives its daemon."""

    number: int
    world: World
    spool: Path
    wire: Wire
    daemon: Daemon | None = None
    asleep: bool = False
    no_etcd: bool = False
    election: SimulatedElection = field(default_factory=SimulatedElection)

    def start(self, argv: Sequence[str]) -> Started:
        work = self._ship if "--spooled" in argv else self._if_due
        return Started(work)

    def boot(self) -> None:
        jobs = [
            Job("backup", ("backup", "--if-due"), SCHEDULE, fenced=True),
            Job("ship", ("backup", "--spooled"), parse_schedule(["10m"]), scope="node"),
        ]
        self.election = SimulatedElection("standby", self.world.marks)
        self.daemon = Daemon(
            jobs, self, self.election, self.world.clock, node=str(self.number), cluster=CLUSTER, version="1"
        )

    def tick(self) -> None:
        if self.daemon is not None and not self.asleep:
            self.election.now = self._role()
            self.daemon.tick()

    def _role(self) -> Role:
        if self.no_etcd or self.world.no_quorum:
            return "no_lock"
        held = self.world.lease.ask(self.number, self.world.clock.elapsed)
        return "leader" if held or self.world.split else "standby"

    # -- the gate of DueBackup ---------------------------------------------------------------------------

    def acquire(self, patience: float = 0.0) -> None:
        if self.no_etcd or self.world.no_quorum:
            raise EtcdUnreachable("etcd is out of reach", hint="wait")
        if not self.world.split and self.world.luck.random() < 0.02:
            raise Locked("a defragmentation has the lock", hint="wait")

    def release(self) -> None: ...

    # -- the commands ------------------------------------------------------------------------------------

    def _job(self, slot: str | None = None, emergency: bool = False) -> Any:
        node = Node(self.spool, clock=self.world.clock, options={"slot": slot, "emergency": emergency})  # type: ignore[arg-type]
        return node.job(CutOff(self.world.client, lambda: self.no_etcd), self.wire)

    def _if_due(self) -> Result:
        if self.world.luck.random() < 0.05:
            return Result(1, error="the process was killed")
        spool = Node(self.spool).spool
        try:
            report = DueBackup(
                SCHEDULE, CLUSTER, f"node-{self.number}", spool, [catalog_of(self.wire)], self, self._job,
                self.world.clock, emergency=timedelta(hours=2), patience=0.0,
            ).run()  # fmt: skip
        except EtcdGuardError as error:
            return Result(error.exit_code, error=error.message)
        outcome = "skipped" if report.report is None else "created"
        return Result(0, {"outcome": outcome, "satisfied": report.satisfied, "reason": report.reason})

    def _ship(self) -> Result:
        if not Node(self.spool).spool.slots(CLUSTER):
            return Result(0, {"outcome": "shipped"})
        failed = [one.failed for one in self._job().ship()]
        return Result(3 if any(failed) else 0, {"outcome": "shipped"})


class World:
    """Three machines and everything that happens to them."""

    def __init__(self, folder: Path, client: EtcdClient) -> None:
        self.rng = random.Random(SEED)
        self.luck = random.Random(SEED + 1)
        """Of single commands; apart, because how many there are is not ours to say."""
        self.clock = SimulatedClock(START)
        self.client = client
        self.lease = Lease()
        self.marks: dict[str, str] = {}
        self.split = False
        self.no_quorum = False
        self.store = MemoryStore("s3", now=self.clock.now)
        self.happened: dict[str, int] = {}
        self.machines = [
            Machine(number, self, folder / f"node-{number}", Wire(self.store)) for number in range(1, 4)
        ]
        for machine in self.machines:
            machine.boot()

    def heal(self) -> None:
        self.split = self.no_quorum = False
        for machine in self.machines:
            machine.asleep = machine.no_etcd = machine.wire.cut = False
            if machine.daemon is None:
                machine.boot()

    def strike(self) -> None:
        """One trouble, which lasts until the next one or until it heals."""
        what = self.rng.choice(
            ["kill", "pause", "etcd", "s3", "s3-all", "quorum", "split", "split-s3", "heal"]
        )
        self.happened[what] = self.happened.get(what, 0) + 1
        leading = [one for one in self.machines if one.number == self.lease.holder]
        victim = (leading or self.machines)[0] if self.rng.random() < 0.7 else self.rng.choice(self.machines)
        if what == "kill":
            victim.daemon = None
        elif what == "pause":
            victim.asleep = True
        elif what == "etcd":
            victim.no_etcd = True
        elif what in ("s3", "s3-all", "split-s3"):
            for machine in self.machines if what != "s3" else [victim]:
                machine.wire.cut = True
            self.split = what == "split-s3"
        elif what == "quorum":
            self.no_quorum = True
        elif what == "split":
            self.split = True
        else:
            self.heal()

    def live(self, span: timedelta, *, quiet: bool = False) -> None:
        end = self.clock.elapsed + span.total_seconds()
        while self.clock.elapsed < end:
            if not quiet and self.rng.random() < 0.06:
                if self.rng.random() < 0.4:
                    self.heal()
                self.strike()
            for machine in self.rng.sample(self.machines, 3):
                machine.tick()
            self.clock.advance(STEP)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_week_with_everything_going_wrong(tmp_path: Path, shared_cluster: LocalCluster) -> None:
    options = ConnectionOptions(shared_cluster.client_urls, command_timeout=60.0)
    with EtcdClient(options) as client, capture_logs() as logs:
        world = World(tmp_path, client)
        world.live(WEEK)
        world.heal()
        world.live(timedelta(hours=3), quiet=True)
    catalog = catalog_of(world.store)
    listing = catalog.list()
    assert not listing.problems
    by_slot = [str(backup.manifest.slot) for backup in listing.backups]
    assert len(by_slot) == len(set(by_slot)), "a slot has two backups"
    passed = [
        slot_id(slot) for slot in SCHEDULE.between(START - SCHEDULE.shortest, world.clock.now(), most=1000)
    ]
    assert len(passed) == 7 * 24 + 3 + 1
    _, missed = catalog.ledger.known(START - SCHEDULE.shortest, world.clock.now())
    first = passed.index(min(by_slot))
    forgotten = [slot for slot in passed[first:-1] if slot not in by_slot and slot not in missed]
    assert not forgotten, "a slot has neither a backup nor a reason"
    for machine in world.machines:
        assert not Node(machine.spool).spool.slots(CLUSTER), "a spool is not drained"
    taken = {one["backup"] for one in logs if one["event"] == "backup.spooled"}
    dropped = {one["backup"] for one in logs if one["event"] == "backup.superseded"}
    assert taken == {backup.id for backup in listing.backups} | dropped, "a backup is lost"
    # The week was as bad as it was meant to be, and yet most slots have their backup.
    assert len(world.happened) == 9, world.happened
    assert dropped, "no slot was ever fought for"
    assert missed
    assert len(by_slot) > 0.7 * len(passed)
    assert chain_problems(listing) == []
