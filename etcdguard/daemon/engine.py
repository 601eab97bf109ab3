"""The daemon's loop: what is due is started where we may act, and everything is looked after.

``tick`` does everything and never blocks; commands run in processes of their own, the election in a thread.
So one job that hangs costs the others nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from etcdguard.clock import Clock
from etcdguard.daemon.election import Election
from etcdguard.daemon.jobs import Job
from etcdguard.daemon.runner import Runner
from etcdguard.daemon.state import DaemonState, Role, Run
from etcdguard.daemon.timetable import Timetable
from etcdguard.daemon.work import Work
from etcdguard.log import get_logger

__all__ = ["Daemon"]

_log = get_logger()

_LONGEST_PAUSE = 1.0
"""Seconds between two looks at the clock: it may be set, and the lock may be lost."""


class Daemon:
    """Runs ``jobs``; call ``tick`` until ``stop`` was called and it is ``stopped``.

    ``wanted`` says of a job by name whether a run has anything to do, where that is cheaper to know than to
    run it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        runner: Runner,
        election: Election,
        clock: Clock,
        *,
        node: str,
        cluster: str,
        version: str,
        wanted: Mapping[str, Callable[[], bool]] | None = None,
    ) -> None:
        self._clock = clock
        self._election = election
        self._node = node
        self._cluster = cluster
        self._version = version
        self._wanted = dict(wanted or {})
        self._role: Role = "standby"
        self._stopping = False
        self._started_at = self._loaded_at = clock.now()
        self._config_problem: str | None = None
        self._timetable = Timetable(clock, cluster, self._due)
        self._works: dict[str, Work] = {}
        self._use(jobs, runner)
        for work in self._works.values():
            if work.job.catch_up:
                self._due(work.job, work.job.schedule.latest(clock.now()))
        self.state = self._state()
        """As of the last tick; replaced as a whole, so that any thread may read it."""

    @property
    def stopped(self) -> bool:
        """Whether the end has been reached: told to stop, and nothing runs any more."""
        return self._stopping and not any(work.running for work in self._works.values())

    def tick(self) -> float:
        """Do what is to be done now; the seconds until it wants to be called again, at most one."""
        self._follow_role()
        if not self._stopping:
            self._timetable.run_pending()
        for work in self._works.values():
            self._step(work)
        self.state = self._state()
        return self._pause()

    def reload(
        self,
        jobs: Sequence[Job],
        runner: Runner,
        election: Election | None = None,
        *,
        wanted: Mapping[str, Callable[[], bool]] | None = None,
    ) -> None:
        """Go on with another configuration; ``election`` and ``wanted`` replace ours where they are given."""
        self._election = election or self._election
        self._wanted = dict(self._wanted if wanted is None else wanted)
        self._loaded_at = self._clock.now()
        self._config_problem = None
        self._use(jobs, runner)

    def keep(self, problem: str) -> None:
        """Go on with the configuration we have, because the new one cannot be used."""
        self._config_problem = problem

    def stop(self) -> None:
        """Start nothing more, and ask what runs to end."""
        self._stopping = True
        for work in self._works.values():
            work.stop()

    def kill(self) -> None:
        """End what still runs."""
        for work in self._works.values():
            work.kill()

    def _use(self, jobs: Sequence[Job], runner: Runner) -> None:
        timetable = Timetable(self._clock, self._cluster, self._due)
        for job in jobs:
            timetable.add(job)  # refuses a second one of its name, before anything has changed
        works = {}
        for job in jobs:
            works[job.name] = Work(job, runner, self._clock)
            if job.name in self._works:
                works[job.name].take_over(self._works[job.name], runner)
            if job.unavailable is not None:
                _log.warning(
                    "job.unavailable", job=job.name, schedule=str(job.schedule), reason=job.unavailable
                )
        for name, gone in self._works.items():
            if name not in works and gone.running:
                gone.retire()
                works[name] = gone  # looked after until it has ended, and never due again
        self._timetable, self._works = timetable, works

    def _due(self, job: Job, slot: datetime) -> None:
        wanted = self._wanted.get(job.name)
        if wanted is None or wanted():
            self._works[job.name].due(slot)

    def _step(self, work: Work) -> None:
        acts = self._role == "leader" or work.job.scope == "node"
        # Without a lock every node takes the emergency for itself; the repository decides between them.
        alone = self._role == "no_lock" and work.job.fenced
        ended = work.step(may_act=not self._stopping and (acts or alone))
        if ended is not None:
            self._note_end(work, *ended)

    def _note_end(self, work: Work, slot: str, run: Run) -> None:
        if work.job.scope == "cluster" and run.outcome in ("ok", "skipped", "partial"):
            self._election.mark_done(work.job.name, slot)

    def _follow_role(self) -> None:
        role = self._election.role()
        if role == self._role:
            return
        before, self._role = self._role, role
        if role == "leader":
            _log.info("daemon.leading", before=before)
            for work in self._works.values():
                work.settle(self._election.done(work.job.name))
        elif role == "standby":
            _log.info("daemon.standby", before=before, holder=self._election.holder())
        else:
            _log.warning("daemon.no_lock", before=before, reason=self._election.problem())

    def _pause(self) -> float:
        now = self._clock.monotonic()
        wishes = [at - now for work in self._works.values() if (at := work.wants_step_at()) is not None]
        soonest = self._timetable.soonest()
        if soonest is not None:
            wishes.append((soonest - self._clock.now()).total_seconds())
        return min(_LONGEST_PAUSE, max(0.05, min(wishes, default=_LONGEST_PAUSE)))

    def _state(self) -> DaemonState:
        return DaemonState(
            at=self._clock.now(),
            started_at=self._started_at,
            node=self._node,
            cluster=self._cluster,
            version=self._version,
            role=self._role,
            holder=self._election.holder(),
            lock_problem=self._election.problem() if self._role == "no_lock" else None,
            config_loaded_at=self._loaded_at,
            config_problem=self._config_problem,
            stopping=self._stopping,
            jobs=tuple(work.state(self._timetable.next_run(name)) for name, work in self._works.items()),
        )
