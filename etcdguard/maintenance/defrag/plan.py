"""What a run would do, and why; and how it went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from etcdguard.maintenance.defrag.facts import History, MemberFacts, Policy, Survey
from etcdguard.maintenance.defrag.guards import Problem, in_the_way, unfit
from etcdguard.maintenance.defrag.select import Decision, choose

__all__ = ["DefragReport", "FreshBackup", "MemberResult", "Outcome", "Plan", "make_plan", "worst"]

Outcome = Literal["nothing", "planned", "done", "partial", "failed", "interrupted"]
MemberOutcome = Literal["done", "skipped", "failed"]


@dataclass(frozen=True)
class FreshBackup:
    """The backup that stands behind a run."""

    id: str
    created_at: datetime
    level: str
    """The deepest level at which it was found sound."""


@dataclass(frozen=True)
class Plan:
    """Decisions for every member, those to be defragmented first and in order; and what speaks against it."""

    survey: Survey
    decisions: tuple[Decision, ...]
    problems: tuple[Problem, ...]

    @property
    def chosen(self) -> tuple[Decision, ...]:
        """The members to be defragmented, in order."""
        return tuple(one for one in self.decisions if one.chosen)

    @property
    def nospace(self) -> bool:
        """Whether history is compacted first, and the alarm disarmed in the end."""
        return self.survey.nospace

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.chosen and not self.nospace


def make_plan(survey: Survey, policy: Policy, history: History, now: datetime) -> Plan:
    """Decide for every member, and collect what speaks against it. Rules of members wait for a member."""
    decisions = choose(survey, policy, history, now)
    problems = [*unfit(survey, policy), *in_the_way(decisions, policy, history)]
    return Plan(survey, tuple(decisions), tuple(problems))


@dataclass(frozen=True)
class MemberResult:
    """What became of one member. Sizes in bytes."""

    member: MemberFacts
    outcome: MemberOutcome
    reason: str | None = None
    """Why it failed or was skipped."""
    before: int = 0
    after: int | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class DefragReport:
    """One run, planned or over. ``reason`` says why it did not do all it was to do."""

    outcome: Outcome
    plan: Plan
    backup: FreshBackup | None = None
    results: tuple[MemberResult, ...] = ()
    reason: str | None = None
    compacted: int | None = None
    """The revision that history was given up before."""
    disarmed: bool = False
    started_at: datetime | None = None
    seconds: float = field(default=0.0)

    def result(self, member_id: str) -> MemberResult | None:
        """What became of that member, if its turn came."""
        return next((one for one in self.results if one.member.id == member_id), None)


def worst(results: Iterable[MemberResult], reason: str | None) -> Outcome:
    """How a run ended: ``partial`` when a member was defragmented and not all was done."""
    outcomes = [one.outcome for one in results]
    if reason is None and all(one == "done" for one in outcomes):
        return "done"
    return "partial" if "done" in outcomes else "failed"
