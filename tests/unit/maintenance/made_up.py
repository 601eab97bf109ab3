"""A made-up cluster of three that answers as it is told, and runs of a defragmentation on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.source import Alarm, EndpointFailure
from etcdguard.maintenance.defrag.environment import Environment
from etcdguard.maintenance.defrag.facts import MIB, History, Policy
from etcdguard.maintenance.defrag.history import facts_of, read_history
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup
from etcdguard.maintenance.defrag.run import DefragJob
from etcdguard.maintenance.defrag.survey import Observation
from etcdguard.model import ClusterTopology, MemberStatus
from tests.support.backups import ManualClock
from tests.support.defrag_facts import GIB, NOW, facts

__all__ = ["POLICY", "MadeUp", "Run", "full", "status_of"]

POLICY = Policy()


@dataclass
class MadeUp:
    """Three members: a1 leads. ``shrinks_to`` is what a defragmentation leaves of each, in bytes."""

    statuses_: dict[str, MemberStatus] = field(
        default_factory=lambda: {f"a{n}": status_of(n) for n in (1, 2, 3)}
    )
    alarms_: tuple[Alarm, ...] = ()
    shrinks_to: int = 100 * MIB
    calls: list[str] = field(default_factory=list)
    handing_over: str = "works"
    defragmenting: Callable[[str], bool] = lambda _endpoint: True
    reading: Callable[[str], None] = lambda _endpoint: None
    after_disarm: tuple[Alarm, ...] = ()
    swapped: str | None = None
    """An endpoint where another member answers from now on."""
    lease: EtcdGuardError | None = None
    locked_by: str | None = None

    def _at(self, endpoint: str) -> MemberStatus:
        return next(one for one in self.statuses_.values() if one.endpoint == endpoint)

    def change(self, **changes: Any) -> None:
        self.statuses_ = {key: replace(one, **changes) for key, one in self.statuses_.items()}

    # -- the cluster

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        return list(self.statuses_.values())

    def status(self, endpoint: str) -> MemberStatus:
        found = self._at(endpoint)
        return replace(found, member_id="a9") if endpoint == self.swapped else found

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        return ClusterTopology("c1", tuple(facts(int(key[1:])).member for key in self.statuses_))

    def linearizable_read(self, endpoint: str) -> None:
        self._at(endpoint)
        self.reading(endpoint)

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        return self.alarms_

    def defragment(self, endpoint: str, timeout: float) -> bool:
        one = self._at(endpoint)
        self.calls.append(f"defragment {one.member_id}")
        answered = self.defragmenting(endpoint)
        self.statuses_[one.member_id] = replace(
            self._at(endpoint), db_size=self.shrinks_to, db_size_in_use=min(self.shrinks_to, 90 * MIB)
        )
        return answered

    def move_leader(self, endpoint: str, target_id: str) -> None:
        self.calls.append(f"move_leader {target_id}")
        if self.handing_over == "refused":
            raise ClusterUnhealthy("bad leader transferee", hint="-")
        if self.handing_over == "elsewhere":
            target_id = next(key for key in self.statuses_ if key not in ("a1", target_id))
        if self.handing_over != "ignored":
            self.change(leader_id=target_id, raft_term=8)
        if self.handing_over == "works, the answer is lost":
            raise EtcdUnreachable("no answer in time", hint="-")

    def compact(self, endpoint: str, revision: int, timeout: float) -> None:
        self.calls.append(f"compact {revision}")

    def disarm(self, endpoint: str, alarm: Alarm) -> None:
        self.calls.append(f"disarm {alarm.member_id}")
        self.alarms_ = self.after_disarm

    # -- the lock

    def acquire(self) -> None:
        if self.lease is not None:
            raise self.lease

    def require(self) -> None: ...

    def holder(self) -> object | None:
        return self.locked_by

    def release(self) -> None:
        self.calls.append("release")


def status_of(number: int) -> MemberStatus:
    found = facts(number).status
    assert found is not None
    return found


@dataclass
class Run:
    cluster: MadeUp
    policy: Policy = POLICY
    events: list[Mapping[str, Any]] = field(default_factory=list)
    quota: int | None = 2 * GIB
    fresh: FreshBackup | None = None
    slept: list[float] = field(default_factory=list)

    def job(self) -> DefragJob:
        clock = ManualClock()

        def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            clock.moment += timedelta(seconds=seconds)

        def take() -> FreshBackup:
            self.cluster.calls.append("backup")
            return FreshBackup("taken", NOW, "data")

        def history(cluster_id: str) -> History:
            return read_history(self.events, cluster_id)

        def record(report: DefragReport) -> None:
            self.events.append({"at": NOW.isoformat(), **facts_of(report)})

        return DefragJob(
            Environment(
                cluster=self.cluster,
                lock=self.cluster,
                observe=lambda _member, _status: Observation(quota=self.quota),
                history=history,
                fresh_backup=lambda _cluster: self.fresh,
                take_backup=take,
                record=record,
                shield=lambda _name, _timeout: nullcontext(),
                clock=clock,
                sleep=sleep,
                tell=lambda _line: None,
            ),
            self.policy,
        )

    def run(self) -> DefragReport:
        return self.job().run()


def full(**changes: Any) -> MadeUp:
    """Out of space, nearly all of it history; etcd grants no lease."""
    cluster = MadeUp(
        alarms_=(Alarm("a2", "NOSPACE"), Alarm("a3", "NOSPACE")),
        lease=ClusterUnhealthy("database space exceeded", hint="-"),
        **changes,
    )
    cluster.change(db_size=2 * GIB, db_size_in_use=2 * GIB - 1, errors=("memberID:162 alarm:NOSPACE ",))
    return cluster
