"""Which backups a retention policy keeps, and why. Pure: values in, decisions out.

What is old is told by the order of the chain (epoch, revision, sequence); the clock only says into which
hour, day, week, month or year (UTC) a backup falls. Nothing is decided across clusters: the backups of each
cluster id are judged by themselves, so that a cluster that came to an end keeps its last ones.

Whatever the policy says, these are kept: the newest backup, the newest verified ones (at least one), what is
on hold, what is dated in the future, and what cannot be judged.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta, timezone
from typing import Any

__all__ = ["Candidate", "Decision", "Period", "Policy", "decide"]

_PERIOD = re.compile(
    r"(?:([0-9]{1,4})y)?(?:([0-9]{1,5})m)?(?:([0-9]{1,5})w)?(?:([0-9]{1,6})d)?(?:([0-9]{1,7})h)?", re.ASCII
)
_FUTURE = timedelta(minutes=5)
"""As far as clocks may be apart."""


@dataclass(frozen=True)
class Period:
    """A length of time by the calendar: ``2y5m7d3h`` is two years, five *months*, seven days, three hours."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hours: int = 0

    @classmethod
    def parse(cls, text: str) -> Period:
        """Units y, m, w, d, h, largest first. Raises ValueError; nothing at all is refused."""
        match = _PERIOD.fullmatch(text)
        numbers = [int(group or 0) for group in match.groups()] if match else []
        if not any(numbers):
            raise ValueError(f"not a period: {text!r}")
        return cls(*numbers)

    def __str__(self) -> str:
        numbers = (self.years, self.months, self.weeks, self.days, self.hours)
        return "".join(f"{number}{unit}" for number, unit in zip(numbers, "ymwdh", strict=True) if number)

    def before(self, moment: datetime) -> datetime:
        """The moment that lies this long before; the 31st becomes the last day of a shorter month.

        What lies before the calendar begins is its first moment.
        """
        month = moment.year * 12 + moment.month - 1 - self.years * 12 - self.months
        year, month = month // 12, month % 12 + 1
        try:
            day = min(moment.day, calendar.monthrange(year, month)[1])
            back = timedelta(weeks=self.weeks, days=self.days, hours=self.hours)
            return moment.replace(year=year, month=month, day=day) - back
        except (ValueError, OverflowError):
            return datetime.min.replace(tzinfo=moment.tzinfo)


@dataclass(frozen=True)
class Policy:
    """The rules; a backup that any of them keeps is kept. One without a single rule keeps everything."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: Period | None = None
    """Counted back from the newest backup, so that nothing runs out while no new backups are made."""
    min_verified: int = 1
    """So many of the newest verified backups are kept; never fewer than one."""

    @property
    def facts(self) -> dict[str, int | str]:
        """The rules that are set, by name, for the audit trail."""
        rules = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: str(rule) if isinstance(rule, Period) else rule for name, rule in rules.items() if rule}

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Policy:
        """What ``facts`` said; raises ValueError or TypeError for what no policy has said."""
        within = facts.get("keep_within")
        return cls(**{**facts, "keep_within": None if within is None else Period.parse(within)})

    @property
    def keeps_all(self) -> bool:
        """Whether there is no rule."""
        return self.keep_within is None and not any(count for _, count, _ in _periods(self))


@dataclass(frozen=True)
class Candidate:
    """One backup as far as retention is concerned. ``created_at`` is aware."""

    id: str
    cluster_id: str
    created_at: datetime
    order: tuple[int, int, int]
    """Manifest.order: later compares greater."""
    verified: bool = False
    held: bool = False
    unjudged: str | None = None
    """Why its facts cannot be relied on (another format, no trusted signature): it stays, and is left out."""


@dataclass(frozen=True)
class Decision:
    """``reasons`` say what keeps it; none: it may be removed."""

    id: str
    reasons: tuple[str, ...]

    @property
    def keep(self) -> bool:
        """Whether anything keeps it."""
        return bool(self.reasons)


def decide(candidates: Iterable[Candidate], policy: Policy, now: datetime) -> list[Decision]:
    """A decision for every candidate, newest first within its cluster; their order does not matter."""
    groups: dict[str, list[Candidate]] = {}
    decisions = []
    for candidate in sorted(candidates, key=lambda one: (one.order, one.id), reverse=True):
        if candidate.unjudged is None:
            groups.setdefault(candidate.cluster_id, []).append(candidate)
        else:
            decisions.append(Decision(candidate.id, (candidate.unjudged,)))
    for _, group in sorted(groups.items()):
        decisions += _judge(group, policy, now)
    return decisions


def _judge(group: Sequence[Candidate], policy: Policy, now: datetime) -> Iterator[Decision]:
    """Decisions for the backups of one cluster, newest first."""
    reasons: dict[str, list[str]] = {one.id: [] for one in group}
    for one in group:
        if one.held:
            reasons[one.id].append("on hold")
        if one.created_at > now + _FUTURE:
            reasons[one.id].append("dated in the future")
    reasons[group[0].id].append("newest")
    verified = [one for one in group if one.verified]
    for one in verified[: max(1, policy.min_verified)]:
        reasons[one.id].append("newest verified")
    # A date from a clock gone wrong must not take the place of a true one.
    dated = [one for one in group if one.created_at <= now + _FUTURE]
    for one, reason in _by_rules(dated, policy):
        reasons[one.id].append(reason)
    for one in group:
        yield Decision(one.id, tuple(reasons[one.id]))


def _by_rules(group: Sequence[Candidate], policy: Policy) -> Iterator[tuple[Candidate, str]]:
    if policy.keeps_all:
        yield from ((one, "no rule removes it") for one in group)
        return
    for name, count, period_of in _periods(policy):
        seen: set[str] = set()
        for one in group:
            period = period_of(one)
            if period in seen:
                continue
            if len(seen) == count:
                break
            seen.add(period)
            yield one, f"{name} {len(seen)} of {count}"
    if policy.keep_within is not None and group:
        since = policy.keep_within.before(max(one.created_at for one in group))
        yield from ((one, f"within {policy.keep_within}") for one in group if one.created_at >= since)


def _periods(policy: Policy) -> tuple[tuple[str, int, Callable[[Candidate], str]], ...]:
    """Name, how many, and the period a backup falls into, of each rule that counts."""
    return (
        ("last", policy.keep_last, lambda one: one.id),
        ("hourly", policy.keep_hourly, _dated("%Y-%m-%d %H")),
        ("daily", policy.keep_daily, _dated("%Y-%m-%d")),
        ("weekly", policy.keep_weekly, _dated("%G-%V")),
        ("monthly", policy.keep_monthly, _dated("%Y-%m")),
        ("yearly", policy.keep_yearly, _dated("%Y")),
    )


def _dated(form: str) -> Callable[[Candidate], str]:
    return lambda one: one.created_at.astimezone(timezone.utc).strftime(form)
