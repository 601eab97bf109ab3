"""Asks the repositories now and then, so that what is shown survives a restart of the daemon.

A repository is asked at the start, after every job that may have changed it, and every ten minutes, by a
command in a process of its own: what reads a repository is large, and may hang.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from etcdguard.clock import Clock
from etcdguard.daemon.observe.facts import RepositoryFacts, listed
from etcdguard.daemon.runner import Result, Runner, Running
from etcdguard.daemon.state import DaemonState
from etcdguard.log import get_logger

__all__ = ["Survey"]

_log = get_logger()

_EVERY_SECONDS = 600.0
_TIMEOUT_SECONDS = 300.0
_CHANGING_JOBS = frozenset({"backup", "verify", "drill", "prune", "ship"})


@dataclass
class _Question:
    running: Running
    began: float


class Survey:
    """Call ``tick`` with every state of the daemon; ``facts`` is what is known, replaced as a whole."""

    def __init__(self, repositories: Sequence[str], runner: Runner, clock: Clock) -> None:
        self.facts: tuple[RepositoryFacts, ...] = tuple(RepositoryFacts(name) for name in repositories)
        self._runner = runner
        self._clock = clock
        self._asked: dict[str, float] = {}
        self._running: dict[str, _Question] = {}
        self._seen: frozenset[tuple[str, str]] = frozenset()

    def tick(self, state: DaemonState) -> None:
        """Ask what is to be asked, and take what was answered; never blocks."""
        seen = frozenset(
            (job.name, job.last_run.finished_at.isoformat())
            for job in state.jobs
            if job.name in _CHANGING_JOBS and job.last_run is not None
        )
        if seen != self._seen:
            self._seen = seen
            self._asked.clear()
        now = self._clock.monotonic()
        for facts in self.facts:
            name = facts.name
            if name in self._running:
                self._look_after(facts, now)
            elif not state.stopping and now >= self._asked.get(name, -_EVERY_SECONDS) + _EVERY_SECONDS:
                self._asked[name] = now
                self._ask(facts, now)

    def stop(self) -> None:
        """End what still runs."""
        for question in self._running.values():
            question.running.kill()
        self._running.clear()

    def _ask(self, facts: RepositoryFacts, now: float) -> None:
        try:
            running = self._runner.start(("list", "--repository", facts.name))
        except OSError as error:
            self._set(replace(facts, error=f"the command could not be started: {error}"))
        else:
            self._running[facts.name] = _Question(running, now)

    def _look_after(self, facts: RepositoryFacts, now: float) -> None:
        question = self._running[facts.name]
        result = question.running.poll()
        if result is not None:
            del self._running[facts.name]
            self._set(self._answered(facts, result))
        elif now >= question.began + _TIMEOUT_SECONDS:
            question.running.kill()  # its end is seen by the next tick

    def _answered(self, facts: RepositoryFacts, result: Result) -> RepositoryFacts:
        if result.code == 0 and result.document is not None:
            try:
                return listed(facts.name, result.document, self._clock.now())
            except (KeyError, TypeError, ValueError) as error:
                return replace(facts, error=f"what it listed cannot be read: {error!r}")
        return replace(facts, error=result.error or f"the command ended with {result.code}")

    def _set(self, facts: RepositoryFacts) -> None:
        if facts.error is not None:
            _log.warning("repository.not_surveyed", repository=facts.name, error=facts.error)
        self.facts = tuple(facts if one.name == facts.name else one for one in self.facts)
