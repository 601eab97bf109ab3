"""Which members are worth it, and in which order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from etcdguard.maintenance.defrag.facts import History, MemberFacts, Policy, Survey, fragmentation

__all__ = ["Arm", "Decision", "choose", "decide", "in_order", "successor"]

Arm = Literal["fragmentation", "quota", "nospace"]
"""What made the decision: the share of free pages, a database near its quota, or the alarm."""


@dataclass(frozen=True)
class Decision:
    """Whether a member is defragmented, and why."""

    member: MemberFacts
    arm: Arm | None
    reason: str

    @property
    def chosen(self) -> bool:
        """Whether it is to be defragmented."""
        return self.arm is not None


def choose(survey: Survey, policy: Policy, history: History, now: datetime) -> list[Decision]:
    """A decision for every member: those chosen first, in the order in which they are defragmented."""
    decisions = [
        decide(one, policy, nospace=survey.nospace, last=history.last.get(one.id), now=now)
        for one in survey.members
    ]
    ordered = in_order((one for one in decisions if one.chosen), survey.leader_id)
    return [*ordered, *(one for one in decisions if not one.chosen)]


def decide(
    facts: MemberFacts, policy: Policy, *, nospace: bool, last: datetime | None, now: datetime
) -> Decision:
    """Judge one member by its sizes; ``last`` is when it was last defragmented."""
    status = facts.status
    if facts.member.is_learner:
        return Decision(facts, None, "a learner cannot be defragmented")
    if status is None:
        return Decision(facts, None, "its size is not known")
    if status.db_size_in_use is None:
        return Decision(facts, None, "etcd does not say how much of its database is in use")
    free, share = fragmentation(status)
    seen = f"{share:.0%} of {_mib(status.db_size)} is free"
    used = facts.quota_share
    if nospace:
        return _without_space(facts, policy, share, seen)
    if status.db_size < policy.min_size:
        return Decision(facts, None, f"{seen}; smaller than {_mib(policy.min_size)}")
    if used is not None and used >= policy.quota_usage:
        wanted = max(policy.min_free, policy.quota_free * (facts.quota or 0))
        if free >= wanted:
            return Decision(facts, "quota", f"{seen}, and it takes {used:.0%} of its quota")
        seen += f", and it takes {used:.0%} of its quota, but less than {_mib(int(wanted))} is free"
    if share < policy.fragmentation or free < policy.min_free:
        return Decision(facts, None, f"{seen}; below {policy.fragmentation:.0%} or {_mib(policy.min_free)}")
    if last is not None and now - last < policy.at_most_every:
        return Decision(facts, None, f"{seen}; it was defragmented at {last.isoformat(timespec='seconds')}")
    return Decision(facts, "fragmentation", seen)


def _without_space(facts: MemberFacts, policy: Policy, share: float, seen: str) -> Decision:
    """The alarm waives the floors; a member near its quota would only raise it again."""
    used = facts.quota_share
    if used is None:
        return Decision(facts, "nospace", f"no space is left, and {seen}")
    if used >= policy.quota_usage:
        return Decision(facts, "nospace", f"no space is left: it takes {used:.0%} of its quota; {seen}")
    if share >= policy.fragmentation:
        return Decision(facts, "nospace", f"no space is left, and {seen}")
    return Decision(facts, None, f"{seen}; it takes {used:.0%} of its quota")


def in_order(chosen: Iterable[Decision], leader_id: str | None) -> list[Decision]:
    """Followers first, the most fragmented of them first; the leader last."""

    def rank(decision: Decision) -> tuple[bool, float, str]:
        status = decision.member.status
        share = 0.0 if status is None else fragmentation(status)[1]
        return decision.member.id == leader_id, -share, decision.member.id

    return sorted(chosen, key=rank)


def successor(survey: Survey, leader_id: str, defragmented: Sequence[str]) -> MemberFacts | None:
    """Whom the leader hands over to: a voter defragmented in this run where there is one, well up to date."""
    fit = [one for one in survey.voters if one.id != leader_id and one.status and not one.failure]
    return max(fit, key=lambda one: (one.id in defragmented, _applied(one), one.id), default=None)


def _applied(facts: MemberFacts) -> int:
    return 0 if facts.status is None else facts.status.raft_applied_index


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
