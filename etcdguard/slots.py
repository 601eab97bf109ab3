"""Schedules and their slots. A slot is a moment at which a job is due; its id is that moment in UTC.

Everything here is a pure function of the schedule and a time: any node that reads the same schedule knows
the same slots, whatever it did before and however its clock jumped. So a slot can be named between nodes,
and done once.

- An interval's slots are its multiples since 1970: ``1h`` is due on every full hour in UTC.
- A time of day is local to its zone. One that the zone skips is due once, at the end of the gap; one that
  comes twice is due the first time only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from hashlib import sha256
from itertools import pairwise
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = [
    "HINT",
    "BadSchedule",
    "Interval",
    "Schedule",
    "TimesOfDay",
    "parse_schedule",
    "slot_id",
    "slot_time",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SHORTEST = timedelta(seconds=1)
_LONGEST = timedelta(days=366)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_ID_FORMAT = "%Y%m%dT%H%M%SZ"
_SECOND = timedelta(seconds=1)

HINT = "write an interval (1h), or times of day: daily at 02:00, 14:00 Europe/Berlin; mon,thu at 03:30 UTC"
"""How a schedule is written, in one line."""

_JITTER = re.compile(r"(?P<when>.+?)\s+jitter\s+(?P<span>\S+)")
_TIMES = re.compile(
    r"(?P<days>[a-z]+(?:\s*,\s*[a-z]+)*)\s+at\s+"
    r"(?P<times>[0-9:]+(?:\s*,\s*[0-9:]+)*)(?:\s+(?P<zone>[A-Za-z][A-Za-z0-9_+/-]*))?"
)
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9]))?")
_DURATION = re.compile(
    r"(?:(\d{1,6})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,7})m)?(?:(\d{1,9})s)?", re.ASCII
)


class BadSchedule(ValueError):
    """A schedule that cannot be kept; the message says why."""


class _Rule(Protocol):
    @property
    def shortest(self) -> timedelta:
        """The least time between two slots, but for changes of the zone's offset."""

    def latest(self, now: datetime) -> datetime:
        """The newest slot that is not after ``now``."""

    def next(self, now: datetime) -> datetime:
        """The first slot after ``now``."""


@dataclass(frozen=True)
class Interval:
    """Every so often."""

    every: timedelta

    @property
    def shortest(self) -> timedelta:
        """See _Rule."""
        return self.every

    def latest(self, now: datetime) -> datetime:
        """See _Rule."""
        return _EPOCH + (now - _EPOCH) // self.every * self.every

    def next(self, now: datetime) -> datetime:
        """See _Rule."""
        return self.latest(now) + self.every


@dataclass(frozen=True)
class TimesOfDay:
    """At these local times on these days of the week (Monday is 0)."""

    times: tuple[time, ...]
    days: frozenset[int]
    zone: tzinfo

    @property
    def shortest(self) -> timedelta:
        """See _Rule."""
        at = sorted(timedelta(hours=one.hour, minutes=one.minute, seconds=one.second) for one in self.times)
        overnight = at[0] + timedelta(days=1) - at[-1]
        return min([overnight, *(later - earlier for earlier, later in pairwise(at))])

    def latest(self, now: datetime) -> datetime:
        """See _Rule."""
        return next(
            max(passed)
            for day in self._days(now, 1, -9)
            if (passed := [s for s in self._on(day) if s <= now])
        )

    def next(self, now: datetime) -> datetime:
        """See _Rule."""
        return next(
            min(coming) for day in self._days(now, -1, 9) if (coming := [s for s in self._on(day) if s > now])
        )

    def _days(self, now: datetime, first: int, last: int) -> Iterator[date]:
        """The days that count, from ``first`` to ``last`` days after today in the zone."""
        today = now.astimezone(self.zone).date()
        for offset in range(first, last + (1 if last > first else -1), 1 if last > first else -1):
            day = today + timedelta(days=offset)
            if day.weekday() in self.days:
                yield day

    def _on(self, day: date) -> list[datetime]:
        return [_instant(day, at, self.zone) for at in self.times]


@dataclass(frozen=True)
class Schedule:
    """One or several rules; ``text`` is how it was written. ``jitter`` delays a slot's run, never its id."""

    text: tuple[str, ...]
    rules: tuple[_Rule, ...]
    jitter: timedelta = timedelta()

    def __str__(self) -> str:
        return "; ".join(self.text)

    @property
    def shortest(self) -> timedelta:
        """The least time between two slots of one rule."""
        return min(rule.shortest for rule in self.rules)

    def latest(self, now: datetime) -> datetime:
        """The newest slot that is not after ``now``."""
        return max(rule.latest(now) for rule in self.rules)

    def next(self, now: datetime) -> datetime:
        """The first slot after ``now``."""
        return min(rule.next(now) for rule in self.rules)

    def between(self, after: datetime, until: datetime, *, most: int) -> Sequence[datetime]:
        """The slots later than ``after`` and not later than ``until``; of more than ``most``, the newest."""
        found: list[datetime] = []
        slot = self.latest(until)
        while slot > after and len(found) < most:
            found.append(slot)
            slot = self.latest(slot - timedelta(microseconds=1))
        return found[::-1]

    def delay(self, slot: datetime, salt: str) -> timedelta:
        """How long after its slot a run begins, below ``jitter``; the same wherever ``salt`` is."""
        if not self.jitter:
            return timedelta()
        digest = sha256(f"{salt}\0{slot_id(slot)}".encode()).digest()
        return self.jitter * (int.from_bytes(digest[:8], "big") / 2**64)


def slot_id(slot: datetime) -> str:
    """A slot's name, in UTC: ``20261121T020000Z``."""
    return slot.astimezone(timezone.utc).strftime(_ID_FORMAT)


def slot_time(text: str) -> datetime:
    """The moment that an id names; raises ValueError for what is none."""
    if not _ID.fullmatch(text):
        raise ValueError(f"not a slot id: {text!r}")
    return datetime.strptime(text, _ID_FORMAT).replace(tzinfo=timezone.utc)


def parse_schedule(texts: Sequence[str]) -> Schedule:
    """The schedule of one or several texts; raises BadSchedule for what cannot be kept."""
    if not texts:
        raise BadSchedule("a schedule without a time")
    rules: list[_Rule] = []
    jitters: list[timedelta] = []
    for text in texts:
        when, jitter = _apart(" ".join(text.split()))
        rules.append(_rule(when))
        jitters.append(jitter)
    if len(set(map(repr, rules))) != len(rules):
        raise BadSchedule("the same times are given twice")
    found = Schedule(tuple(texts), tuple(rules), max(jitters))
    if found.jitter >= found.shortest:
        raise BadSchedule("the jitter is not shorter than the time between two runs")
    return found


def _apart(text: str) -> tuple[str, timedelta]:
    match = _JITTER.fullmatch(text)
    if match is None:
        return text, timedelta()
    return match["when"], _duration(match["span"])


def _rule(text: str) -> _Rule:
    if " " not in text:
        every = _duration(text)
        if every < _SHORTEST:
            raise BadSchedule("an interval is at least one second")
        if every > _LONGEST:
            raise BadSchedule("an interval is at most 366 days")
        return Interval(every)
    match = _TIMES.fullmatch(text)
    if match is None:
        raise BadSchedule(f"not a schedule: {text!r}")
    times = tuple(_time(part.strip()) for part in match["times"].split(","))
    if len(set(times)) != len(times):
        raise BadSchedule(f"a time of day is given twice: {text!r}")
    return TimesOfDay(times, _weekdays(match["days"]), _zone(match["zone"] or "UTC"))


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise BadSchedule(f"not an interval of whole seconds: {text!r}")
    weeks, days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def _time(text: str) -> time:
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadSchedule(f"not a time of day: {text!r}")
    return time(int(match[1]), int(match[2]), int(match[3] or 0))


def _weekdays(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(7))
    names = [part.strip() for part in text.split(",")]
    unknown = [name for name in names if name not in _DAYS]
    if unknown:
        raise BadSchedule(f"not a day of the week: {unknown[0]!r}")
    if len(set(names)) != len(names):
        raise BadSchedule(f"a day is given twice: {text!r}")
    return frozenset(map(_DAYS.index, names))


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return timezone.utc  # there even where no tzdata is, as on a small Ubuntu
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadSchedule(f"unknown time zone {name!r} (zones come from the system's tzdata)") from error


def _instant(day: date, at: time, zone: tzinfo) -> datetime:
    """That local time in UTC: its first occurrence, or where it does not exist the end of the gap."""
    local = datetime.combine(day, at, tzinfo=zone)
    moment = local.astimezone(timezone.utc)  # of two occurrences the first, as fold is 0
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    # In a gap the two folds are the time read with the offset before it and after it: around the change.
    before, after = local.replace(fold=1).astimezone(timezone.utc), moment
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after
