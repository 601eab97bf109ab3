"""Everything one report judges: the period, what is expected, and each repository's history. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise

from etcdguard.audit.history import Check, History, Known, Promised
from etcdguard.audit.period import Span
from etcdguard.audit.promise import Promise
from etcdguard.errors import UsageError
from etcdguard.slots import Schedule, slot_id

__all__ = ["Case", "Expectation", "Gap", "Sighting"]

_MOST_SLOTS = 100_000


@dataclass(frozen=True)
class Expectation:
    """What the reader's own configuration expects. ``promise`` None: it knows nothing of this cluster."""

    promise: Promise | None = None
    must_be_signed: bool = False
    rpo: timedelta | None = None
    """The longest time between two backups; None: half as much again as the schedule's."""


@dataclass(frozen=True)
class Gap:
    """A time without a backup."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class Sighting:
    """One backup over all repositories."""

    id: str
    by: tuple[tuple[History, Known], ...]

    @property
    def first(self) -> Known:
        """As the first repository knows it."""
        return self.by[0][1]


@dataclass(frozen=True)
class Case:
    """One cluster."""

    cluster: str
    period: Span
    now: datetime
    expectation: Expectation
    histories: tuple[History, ...]

    @cached_property
    def readable(self) -> tuple[History, ...]:
        """The repositories that answered."""
        return tuple(one for one in self.histories if one.facts.error is None)

    @cached_property
    def sightings(self) -> tuple[Sighting, ...]:
        """Every backup known anywhere, oldest first."""
        found: dict[str, list[tuple[History, Known]]] = {}
        for history in self.readable:
            for one in history.known.values():
                found.setdefault(one.id, []).append((history, one))
        ordered = sorted(found.items(), key=lambda item: (item[1][0][1].created_at, item[0]))
        return tuple(Sighting(backup_id, tuple(by)) for backup_id, by in ordered)

    @cached_property
    def promised(self) -> tuple[Promised, ...]:
        """What the trails say was configured, each change once, oldest first."""
        every = sorted(
            (one for history in self.readable for one in history.promised), key=lambda one: (one.at, one.key)
        )
        changes: list[Promised] = []
        for one in every:
            if not changes or one.promise.facts != changes[-1].promise.facts:
                changes.append(one)
        return tuple(changes)

    @cached_property
    def promise(self) -> Promise:
        """What holds at the end of the period: as configured here, else as the newest backup tells."""
        if self.expectation.promise is not None:
            return self.expectation.promise
        return self.promised[-1].promise if self.promised else Promise()

    @cached_property
    def first_known(self) -> datetime | None:
        """The oldest backup that any repository knows of."""
        return self.sightings[0].first.created_at if self.sightings else None

    # -- schedules ---------------------------------------------------------------------------------------

    def schedules(self, job: str) -> Iterator[tuple[Span, Schedule]]:
        """The job's schedule in each part of the period that had one, from the first backup on.

        With no backup known at all, from the beginning of the period.
        """
        since = max(self.period.start, self.first_known or self.period.start)
        if not self.promised:
            parts = [(since, self.period.end, self.promise)]
        else:
            moments = [one.at for one in self.promised[1:]]
            parts = [
                (max(start, since), min(end, self.period.end), one.promise)
                for one, start, end in zip(
                    self.promised, [since, *moments], [*moments, self.period.end], strict=True
                )
            ]
        for start, end, promise in parts:
            schedule = promise.schedules.get(job)
            if schedule is not None and start < end:
                yield Span(start, end), schedule

    def slots(self, job: str) -> list[datetime]:
        """The job's slots in the period, oldest first. Raises UsageError for more than can be judged."""
        found: list[datetime] = []
        for span, schedule in self.schedules(job):
            tick = timedelta(microseconds=1)
            found += schedule.between(span.start - tick, span.end - tick, most=_MOST_SLOTS + 1)
            if len(found) > _MOST_SLOTS:
                raise UsageError(
                    f"the period has more than {_MOST_SLOTS} slots of the schedule",
                    hint="audit a shorter period: --from 30d",
                )
        return found

    def interval(self, job: str) -> timedelta | None:
        """The longest time between two slots of the job's present schedule, looked at over eight days."""
        schedule = self.promise.schedules.get(job)
        if schedule is None:
            return None
        end = schedule.latest(self.period.end)
        slots = schedule.between(end - timedelta(days=8), end, most=_MOST_SLOTS)
        distances = [later - earlier for earlier, later in pairwise(slots)]
        return max(distances, default=schedule.next(end) - schedule.latest(end - timedelta(microseconds=1)))

    @cached_property
    def satisfied(self) -> frozenset[str]:
        """Slots that have a backup, or had one."""
        taken = {one.first.slot for one in self.sightings if one.first.slot is not None}
        unsigned = (slot for history in self.readable for slot in history.facts.decided)
        return frozenset(taken if self.expectation.must_be_signed else {*taken, *unsigned})

    @cached_property
    def expected(self) -> tuple[str, ...]:
        """Slots of the period that were to have a backup. The newest is over only when the next comes."""
        slots = [slot_id(slot) for slot in self.slots("backup")]
        schedule = self.promise.schedules.get("backup")
        if schedule is not None and slots and slots[-1] not in self.satisfied:
            current = slot_id(schedule.latest(self.now))
            slots = [slot for slot in slots if slot < current]
        return tuple(slots)

    # -- time between backups ------------------------------------------------------------------------------

    @cached_property
    def taken(self) -> tuple[datetime, ...]:
        """When the backups of the period were taken."""
        moments = (one.first.created_at for one in self.sightings)
        return tuple(sorted(moment for moment in moments if moment in self.period))

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """The times between one backup and the next, from the last before the period to its end."""
        before = [one.first.created_at for one in self.sightings if one.first.created_at < self.period.start]
        moments = [*before[-1:], *self.taken]
        if not moments:
            return ()
        return tuple(Gap(earlier, later) for earlier, later in pairwise([*moments, self.period.end]))

    @cached_property
    def rpo(self) -> timedelta | None:
        """The longest time that may pass between backups: by default one may be late, none missing."""
        schedule, interval = self.promise.schedules.get("backup"), self.interval("backup")
        if self.expectation.rpo is not None or schedule is None or interval is None:
            return self.expectation.rpo
        return interval * 1.5 + schedule.jitter

    # -- verification --------------------------------------------------------------------------------------

    @cached_property
    def checks(self) -> tuple[tuple[History, Check], ...]:
        """Every verification up to the end of the period, oldest first."""
        found = [
            (history, check)
            for history in self.readable
            for check in history.checks
            if check.at < self.period.end
        ]
        return tuple(sorted(found, key=lambda one: (one[1].at, one[1].key)))

    @cached_property
    def restored_in(self) -> tuple[float, ...]:
        """Seconds that the drills of the period took which restored their backup."""
        drills = (one.drill for _, one in self.checks if one.sound and one.drill and one.at in self.period)
        return tuple(float(drill["rto_seconds"]) for drill in drills if "rto_seconds" in drill)

    def newest_sound(self, levels: Sequence[str]) -> tuple[History, Check] | None:
        """The newest verification at one of these levels that found its backup sound."""
        return next(
            (one for one in reversed(self.checks) if one[1].sound and one[1].level in levels),
            None,
        )
