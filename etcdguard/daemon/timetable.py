"""The `schedule` package, told our times and our clock (docs/adr/0008-the-daemon.md).

It keeps the jobs, sorts those that are due and runs them; when a job is due next, and what time it is, comes
from us: its own arithmetic starts from the moment a process started, and reads ``datetime.now()``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import schedule

from etcdguard.clock import Clock
from etcdguard.daemon.jobs import Job
from etcdguard.errors import ConfigError

__all__ = ["Timetable"]

_TICK = timedelta(microseconds=1)


class _SlotJob(schedule.Job):
    """A job of the package whose next run is its schedule's next slot, and a slot's delay."""

    def __init__(self, timetable: Timetable, job: Job) -> None:
        super().__init__(1, timetable.scheduler)
        self.unit = "seconds"  # of no meaning here, but the package wants one
        self.spec = job
        self._timetable = timetable

    @property
    def should_run(self) -> bool:
        return self.next_run is not None and self._timetable.clock.now() >= self.next_run

    def reschedule(self) -> None:
        """Find the next run anew, for a clock that was set back."""
        self._schedule_next_run()

    def _schedule_next_run(self) -> None:
        now = self._timetable.clock.now()
        when, delayed = self.spec.schedule, self._timetable.delayed
        begun = delayed(self.spec, when.latest(now))  # its slot has come, and perhaps not its run
        self.next_run = begun if begun > now else delayed(self.spec, when.next(now))


class Timetable:
    """Calls ``due(job, slot)`` for every slot as its time comes; ``salt`` spreads what has jitter.

    A clock that is set forward over several slots calls for the newest only. One that is set back has its
    slots called for again: whoever is called knows what is done.
    """

    def __init__(self, clock: Clock, salt: str, due: Callable[[Job, datetime], None]) -> None:
        self.clock = clock
        self.salt = salt
        self.scheduler = schedule.Scheduler()
        self._due = due
        self._jobs: dict[str, _SlotJob] = {}
        self._seen = clock.now()

    def add(self, job: Job) -> None:
        """Call for it from its next slot on; raises ConfigError for a second job of one name."""
        if job.name in self._jobs:
            raise ConfigError(f"two jobs are named {job.name!r}", hint="give each its own name")
        self._jobs[job.name] = _SlotJob(self, job)
        self._jobs[job.name].do(self._call, job)

    def run_pending(self) -> None:
        """Call for everything whose time has come."""
        now = self.clock.now()
        if now < self._seen:
            for job in self._jobs.values():
                job.reschedule()
        self._seen = now
        self.scheduler.run_pending()

    def next_run(self, name: str) -> datetime | None:
        """When that job is called for next."""
        job = self._jobs.get(name)
        return None if job is None else job.next_run

    def soonest(self) -> datetime | None:
        """When anything is called for next."""
        soonest: datetime | None = self.scheduler.next_run
        return soonest

    def delayed(self, job: Job, slot: datetime) -> datetime:
        """When the job of that slot is called for."""
        return slot + job.schedule.delay(slot, f"{self.salt} {job.name}")

    def _call(self, job: Job) -> None:
        now = self.clock.now()
        slot = job.schedule.latest(now)
        if now < self.delayed(job, slot):  # we are late: what is due is the slot before
            slot = job.schedule.latest(slot - _TICK)
        self._due(job, slot)
