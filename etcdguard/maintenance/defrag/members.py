"""The part of a defragmentation that blocks members: one after the other, the leader last, handed over first.

The next member's turn comes only when the one before serves again, has shrunk, and the cluster has been sound
for a while.
"""

from __future__ import annotations

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError
from etcdguard.log import get_logger
from etcdguard.maintenance.defrag.environment import Environment
from etcdguard.maintenance.defrag.facts import NOSPACE, MemberFacts, Policy, Survey
from etcdguard.maintenance.defrag.guards import breaches, unfit
from etcdguard.maintenance.defrag.plan import DefragReport, MemberResult, Plan, worst
from etcdguard.maintenance.defrag.select import successor
from etcdguard.maintenance.defrag.survey import take_survey
from etcdguard.model import MemberStatus

__all__ = ["POLL", "MemberRun", "status_of"]

_log = get_logger()

POLL = 1.0
"""Seconds between two looks at a cluster that is waited for."""
_ELECTION = 15.0
"""Seconds within which a leader that was moved is confirmed."""


class _Abort(Exception):
    """The run ends here; the text says why."""


class MemberRun:
    """Defragments the chosen members of a plan."""

    def __init__(self, environment: Environment, policy: Policy, plan: Plan, *, locked: bool) -> None:
        self._env = environment
        self._cluster = environment.cluster
        self._policy = policy
        self._plan = plan
        self._locked = locked
        self._baseline = plan.survey
        self._results: list[MemberResult] = []
        self._disarmed = False

    def go(self) -> DefragReport:
        """How far it came, also after an interrupt."""
        reason = None
        try:
            for decision in self._plan.chosen:
                self._member(decision.member.id)
            skipped = [one for one in self._results if one.outcome != "done"]
            if skipped:
                reason = "; ".join(f"{one.member.name}: {one.reason}" for one in skipped)
            elif self._plan.nospace:
                self._disarm()
        except KeyboardInterrupt:
            return self._report("interrupted by a signal", interrupted=True)
        except _Abort as abort:
            reason = str(abort)
        except EtcdGuardError as error:
            reason = error.message
        return self._report(reason)

    def _report(self, reason: str | None, *, interrupted: bool = False) -> DefragReport:
        outcome = "interrupted" if interrupted else worst(self._results, reason)
        if reason is not None:
            _log.warning("defrag.stopped", outcome=outcome, reason=reason)
        return DefragReport(
            outcome, self._plan, results=tuple(self._results), reason=reason, disarmed=self._disarmed
        )

    def _member(self, member_id: str) -> None:
        """One member's turn; raises _Abort when no other may have one."""
        survey = self._sound()
        facts = _facts(survey, member_id)
        if member_id == survey.leader_id and len(survey.voters) > 1:
            problem = self._hand_over(survey, facts)
            if problem is not None:
                self._results.append(MemberResult(facts, "skipped", problem))
                return
            facts = _facts(self._baseline, member_id)
        before = status_of(survey, member_id)
        timeout = self._policy.timeout(before.db_size)
        if self._locked:
            self._env.lock.require()
        with self._env.shield(facts.name, timeout):
            self._env.tell(f"{facts.name}: defragmenting {before.db_size / 2**20:.1f} MiB")
            _log.info("defrag.member_started", member=facts.name, db_bytes=before.db_size, timeout=timeout)
            self._results.append(self._defragment(facts, before, timeout))
        result = self._results[-1]
        _log.info(
            "defrag.member_ended",
            member=facts.name,
            outcome=result.outcome,
            before=before.db_size,
            after=result.after,
            seconds=round(result.seconds, 3),
            reason=result.reason,
        )
        if result.outcome != "done":
            raise _Abort(f"{facts.name}: {result.reason}")
        self._settle()
        if self._plan.nospace:
            self._check_room(_facts(self._sound(), member_id))

    def _check_room(self, facts: MemberFacts) -> None:
        """Block no other member where that cannot help; what is in use etcd tells too late to know before."""
        share = facts.quota_share
        if share is not None and share >= self._policy.quota_usage:
            raise _Abort(
                f"{facts.name} is defragmented and still takes {share:.0%} of its quota:"
                " delete keys, or restart every member with a larger --quota-backend-bytes"
            )

    def _defragment(self, facts: MemberFacts, before: MemberStatus, timeout: float) -> MemberResult:
        """Block one member, and do not return before it serves again, or patience ends."""
        clock = self._env.clock
        began = clock.monotonic()
        late = None
        try:
            if not self._cluster.defragment(before.endpoint, timeout):
                late = f"it gave no answer within {timeout:g} s"
        except EtcdGuardError as error:
            late = error.message
        if not self._serves_again(before):
            why = f"{late or 'it was defragmented'}, and does not serve {self._policy.patience:g} s later"
            return MemberResult(facts, "failed", why, before.db_size, None, clock.monotonic() - began)
        seconds = clock.monotonic() - began
        after = self._cluster.status(before.endpoint).db_size
        if late is not None:
            return MemberResult(
                facts, "failed", f"{late}, though it serves again", before.db_size, after, seconds
            )
        if after >= before.db_size:
            return MemberResult(facts, "failed", "it did not shrink", before.db_size, after, seconds)
        return MemberResult(facts, "done", None, before.db_size, after, seconds)

    def _serves_again(self, before: MemberStatus) -> bool:
        """Ask until the same member serves a read again, or patience ends."""
        deadline = self._env.clock.monotonic() + self._policy.patience
        while True:
            try:
                self._cluster.linearizable_read(before.endpoint)
                if self._cluster.status(before.endpoint).member_id == before.member_id:
                    return True
            except EtcdGuardError as error:
                _log.debug("defrag.still_blocked", endpoint=before.endpoint, error=error.message)
            if self._env.clock.monotonic() >= deadline:
                return False
            self._env.sleep(POLL)

    def _hand_over(self, survey: Survey, leader: MemberFacts) -> str | None:
        """Move the leader away from that member; why it did not work, if it did not."""
        done = [one.member.id for one in self._results if one.outcome == "done"]
        target = successor(survey, leader.id, done)
        if target is None:
            return "it leads, and nobody can take over"
        self._env.tell(f"{leader.name}: handing over to {target.name}")
        endpoint = status_of(survey, leader.id).endpoint
        refused = None
        try:
            with self._env.shield(leader.name, _ELECTION):
                self._cluster.move_leader(endpoint, target.id)
        except EtcdGuardError as error:
            refused = error.message
        moved = self._elected(target.id, leader.id, patient=refused is None)
        if moved is None:
            why = refused or f"{target.name} was not elected within {_ELECTION:g} s"
            return f"it leads, and handing over failed: {why}"
        self._baseline = moved
        self._env.sleep(self._policy.leader_settle)
        self._baseline = self._sound()
        return None

    def _elected(self, target_id: str, old_id: str, *, patient: bool) -> Survey | None:
        """The cluster once all voters name the new leader; None while the old one stays; else _Abort."""
        deadline = self._env.clock.monotonic() + _ELECTION
        while True:
            late = self._env.clock.monotonic() >= deadline
            try:
                survey = take_survey(self._cluster, self._env.observe)
            except EtcdGuardError:
                if late:
                    raise
            else:
                if survey.leader_id == target_id:
                    return survey
                stays = survey.leader_id == old_id and survey.term == self._baseline.term
                if stays and (late or not patient):
                    return None
                if late:
                    raise _Abort(f"after handing over, the leader is {survey.leader_id}, not {target_id}")
            self._env.sleep(POLL)

    def _sound(self) -> Survey:
        """The cluster when it is sound, waited for with patience; raises _Abort for what is final."""
        return self._sound_times(1)

    def _settle(self) -> None:
        """The cluster must be sound twice in a row, ``settle`` seconds apart."""
        self._sound_times(2)

    def _sound_times(self, wanted: int) -> Survey:
        deadline = self._env.clock.monotonic() + self._policy.patience
        times = 0
        while True:
            found = self._look()
            if isinstance(found, Survey):
                times += 1
                if times == wanted:
                    return found
                self._env.sleep(self._policy.settle)
                continue
            times = 0
            if self._env.clock.monotonic() >= deadline:
                raise _Abort(f"the cluster is not sound: {found}")
            _log.info("defrag.waiting", reason=found)
            self._env.sleep(POLL)

    def _look(self) -> Survey | str:
        """The cluster, or why it is not sound at this moment; raises _Abort for what is final."""
        try:
            survey = take_survey(self._cluster, self._env.observe)
        except EtcdGuardError as error:
            return error.message
        broken = breaches(self._baseline, survey)
        if broken:
            raise _Abort("; ".join(broken))
        problems = unfit(survey, self._policy)
        return "; ".join(one.text for one in problems) if problems else survey

    def _disarm(self) -> None:
        """Take NOSPACE back where every member has room; raises _Abort where one has not."""
        survey = self._sound()
        for one in survey.voters:
            share = one.quota_share
            if share is None:
                raise _Abort(f"the alarm stays: the quota of {one.name} is not known (set defrag.quota)")
            if share >= self._policy.quota_usage:
                raise _Abort(f"the alarm stays: {one.name} takes {share:.0%} of its quota")
        endpoint = status_of(survey, survey.leader_id).endpoint
        for alarm in survey.alarms:
            if alarm.kind == NOSPACE:
                self._cluster.disarm(endpoint, alarm)
        self._env.sleep(self._policy.settle)
        left = [one for one in self._cluster.alarms(endpoint) if one.kind == NOSPACE]
        if left:
            raise _Abort(f"the alarm NOSPACE is back for {', '.join(one.member_id for one in left)}")
        self._disarmed = True


def _facts(survey: Survey, member_id: str) -> MemberFacts:
    facts = survey.by_id(member_id)
    if facts is None:
        raise _Abort(f"{member_id} is no member any more")
    return facts


def status_of(survey: Survey, member_id: str | None) -> MemberStatus:
    """The status of a member that must have one; raises ClusterUnhealthy."""
    facts = None if member_id is None else survey.by_id(member_id)
    if facts is None or facts.status is None:
        raise ClusterUnhealthy(f"member {member_id} gives no status", hint="check etcdctl endpoint status")
    return facts.status
