"""Everything that shows the daemon to others, behind one ``tick``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from http import HTTPStatus

from etcdguard.clock import Clock
from etcdguard.daemon.observe.metrics import exposition
from etcdguard.daemon.observe.page import render
from etcdguard.daemon.observe.problems import Problem, problems
from etcdguard.daemon.observe.server import Answer, StatusServer
from etcdguard.daemon.observe.survey import Survey
from etcdguard.daemon.observe.webhooks import Messenger
from etcdguard.daemon.state import DaemonState
from etcdguard.errors import UsageError
from etcdguard.log import get_logger
from etcdguard.slots import Schedule

__all__ = ["Observer"]

_log = get_logger()

_HUNG_AFTER = timedelta(seconds=30)
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HTML_TYPE = "text/html; charset=utf-8"


class Observer:
    """``state`` answers the daemon's state of the moment; ``schedule`` is that of the backups."""

    def __init__(
        self,
        state: Callable[[], DaemonState],
        survey: Survey,
        messenger: Messenger,
        clock: Clock,
        schedule: Schedule | None,
    ) -> None:
        self._state = state
        self._survey = survey
        self._messenger = messenger
        self._clock = clock
        self._schedule = schedule
        self._server: StatusServer | None = None

    @property
    def port(self) -> int | None:
        """Where it listens; None where it does not."""
        return None if self._server is None else self._server.port

    def listen(self, host: str, port: int) -> None:
        """Serve the pages. An address that is taken is told in the log: backups matter more than pages."""
        pages = {
            "/": self._page,
            "/metrics": self._metrics,
            "/healthz": self._healthy,
            "/readyz": self._ready,
        }
        try:
            self._server = StatusServer(host, port, pages)
        except UsageError as error:
            _log.error("status.not_listening", error=error.message, hint=error.hint)

    def tick(self) -> None:
        """Look, and tell whom it concerns; never blocks."""
        state = self._state()
        self._survey.tick(state)
        if state.role != "standby":  # the one that acts speaks for all
            self._messenger.tell(self._problems(state), state.at)

    def close(self) -> None:
        """Stop listening, asking and telling."""
        if self._server is not None:
            self._server.close()
        self._survey.stop()
        self._messenger.close()

    def _problems(self, state: DaemonState) -> dict[str, Problem]:
        return problems(state, self._survey.facts, self._schedule)

    def _page(self) -> Answer:
        state = self._state()
        return Answer(render(state, self._survey.facts, self._problems(state)), _HTML_TYPE)

    def _metrics(self) -> Answer:
        return Answer(
            exposition(self._state(), self._survey.facts, self._schedule, self._messenger.failed),
            _METRICS_TYPE,
        )

    def _healthy(self) -> Answer:
        """Whether the daemon's loop goes round."""
        age = self._clock.now() - self._state().at
        if age > _HUNG_AFTER:
            return _unavailable([f"the loop has not come round for {age.total_seconds():.0f} s"])
        return Answer(b"ok\n")

    def _ready(self) -> Answer:
        """Whether it can do its work."""
        state = self._state()
        why = []
        if state.stopping:
            why.append("it is stopping")
        if state.role == "no_lock":
            why.append(f"no lock can be had: {state.lock_problem}")
        why += [
            f"repository {one.name} does not answer" for one in self._survey.facts if one.error is not None
        ]
        why += [f"job {job.name} fails again and again" for job in state.jobs if job.circuit_open]
        return _unavailable(why) if why else Answer(b"ok\n")


def _unavailable(why: Sequence[str]) -> Answer:
    return Answer("".join(f"{line}\n" for line in why).encode(), status=HTTPStatus.SERVICE_UNAVAILABLE)
