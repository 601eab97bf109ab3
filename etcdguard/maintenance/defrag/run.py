"""Defragment a cluster: the lock, the guards, a backup, room where there is none, then the members.

A member that is being defragmented serves nothing, and etcd goes on with it whatever its client does: see
``members``.
"""

from __future__ import annotations

from dataclasses import replace

from etcdguard.errors import ClusterUnhealthy, Locked
from etcdguard.log import get_logger
from etcdguard.maintenance.defrag.environment import Environment
from etcdguard.maintenance.defrag.facts import Policy, Survey
from etcdguard.maintenance.defrag.guards import raise_problems, unfit
from etcdguard.maintenance.defrag.members import POLL, MemberRun, status_of
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup, Plan, make_plan
from etcdguard.maintenance.defrag.survey import take_survey

__all__ = ["DefragJob"]

_log = get_logger()


class DefragJob:
    """One run: ``plan`` looks only, ``run`` does it."""

    def __init__(self, environment: Environment, policy: Policy) -> None:
        self._env = environment
        self._cluster = environment.cluster
        self._policy = policy

    def plan(self) -> DefragReport:
        """What a run would do now. Nothing is written and no lock is taken."""
        plan = self._plan()
        backup = None if plan.empty else self._env.fresh_backup(plan.survey.topology.cluster_id)
        return DefragReport("planned", plan, backup)

    def run(self) -> DefragReport:
        """Do it; the report says how far it came, also after an interrupt.

        Raises Locked, EtcdUnreachable, ClusterUnhealthy or Refused, and what a backup raises, while no member
        has been touched.
        """
        locked = self._lock()
        try:
            return self._locked_run(locked=locked)
        finally:
            self._env.lock.release()

    def _lock(self) -> bool:
        """Whether the lock was had: a cluster without space grants nobody a lease."""
        lock = self._env.lock
        try:
            lock.acquire()
        except ClusterUnhealthy:
            survey = self._survey()
            raise_problems(unfit(survey, self._policy))  # says more than that no lock could be had
            if not survey.nospace:
                raise
            holder = lock.holder()
            if holder is not None:
                raise Locked(
                    f"the maintenance lock is held by {holder}", hint="wait for it to end, then run it again"
                ) from None
            _log.warning("defrag.without_lock", reason="NOSPACE: etcd grants no lease")
            return False
        return True

    def _locked_run(self, *, locked: bool) -> DefragReport:
        env = self._env
        started_at, began = env.clock.now(), env.clock.monotonic()
        plan = self._plan()
        if plan.empty:
            return DefragReport("nothing", plan, started_at=started_at)
        raise_problems(plan.problems)
        backup = self._backup(plan)
        compacted = None
        if plan.nospace:
            compacted = self._make_room(plan, began)
            plan = self._plan()
            raise_problems(plan.problems)
        run = MemberRun(env, self._policy, plan, locked=locked)
        report = replace(run.go(), backup=backup, compacted=compacted, started_at=started_at)
        report = replace(report, seconds=env.clock.monotonic() - began)
        env.record(report)
        return report

    def _plan(self) -> Plan:
        survey = self._survey()
        history = self._env.history(survey.topology.cluster_id)
        return make_plan(survey, self._policy, history, self._env.clock.now())

    def _survey(self) -> Survey:
        return take_survey(self._cluster, self._env.observe)

    def _backup(self, plan: Plan) -> FreshBackup:
        found = self._env.fresh_backup(plan.survey.topology.cluster_id)
        if found is not None:
            return found
        self._env.tell("no verified backup is young enough: taking one")
        return self._env.take_backup()

    def _make_room(self, plan: Plan, began: float) -> int | None:
        """Compact history as it was ``compact_age`` ago: etcd remembers no times, so that is waited for."""
        env, policy = self._env, self._policy
        leader = status_of(plan.survey, plan.survey.leader_id)
        wait = policy.compact_age - (env.clock.monotonic() - began)
        if wait > 0:
            env.tell(f"waiting {wait:.0f} s: history younger than {policy.compact_age:g} s is kept")
            env.sleep(wait)
        env.tell(f"compacting the history before revision {leader.revision}")
        self._cluster.compact(leader.endpoint, leader.revision, policy.compact_timeout)
        self._await_freed()
        return leader.revision

    def _await_freed(self) -> None:
        """The other members compact on their own: wait until no more of their pages get free."""
        used: list[int] | None = None
        deadline = self._env.clock.monotonic() + self._policy.compact_timeout
        while self._env.clock.monotonic() < deadline:
            found = [one.status.db_size_in_use or 0 for one in self._survey().members if one.status]
            if found == used:
                return
            used = found
            self._env.sleep(2 * POLL)
