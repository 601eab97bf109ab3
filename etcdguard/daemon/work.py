"""One job of a running daemon: what is due, what runs, and what became of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from etcdguard.clock import Clock
from etcdguard.daemon.breaker import Breaker
from etcdguard.daemon.jobs import Job
from etcdguard.daemon.runner import Result, Runner, Running
from etcdguard.daemon.state import JobState, Outcome, Run
from etcdguard.log import get_logger
from etcdguard.slots import slot_id

__all__ = ["Work"]

_log = get_logger()

_GRACE_SECONDS = 20.0
"""From asking a job to end to ending it."""
_POLL_SECONDS = 0.2
_MOST_DONE = 64


class Work:
    """Drives one job; its owner says when it is due and whether it may act."""

    def __init__(self, job: Job, runner: Runner, clock: Clock) -> None:
        self.job = job
        self._runner = runner
        self._clock = clock
        self._breaker = Breaker.for_period(job.schedule.shortest.total_seconds())
        self._pending: datetime | None = None
        self._running: Running | None = None
        self._slot = ""
        self._started_at: datetime | None = None
        self._started = 0.0
        self._asked_to_end: float | None = None
        self._ending: Outcome | None = None
        self._retired = False
        self._done: dict[str, None] = {}
        self._last: Run | None = None
        self._last_success: Run | None = None

    @property
    def running(self) -> bool:
        """Whether the command runs."""
        return self._running is not None

    def take_over(self, earlier: Work, runner: Runner) -> None:
        """Go on where ``earlier`` is, after a reload: what runs goes on, what is done stays done."""
        job = self.job
        self.__dict__.update(earlier.__dict__)
        self.job = job
        self._runner = runner
        if earlier.job.schedule != job.schedule:
            self._breaker = Breaker.for_period(job.schedule.shortest.total_seconds())
            self._pending = None

    def due(self, slot: datetime) -> None:
        """A slot's time has come."""
        if slot_id(slot) in self._done or self._retired or self.job.unavailable is not None:
            return
        if self._pending is not None and slot > self._pending:
            _log.debug("job.slot_passed", job=self.job.name, slot=slot_id(self._pending))
        self._pending = slot

    def settle(self, slot: str | None) -> None:
        """Another daemon has finished everything up to ``slot``; one to come is from a clock gone wrong."""
        if self._pending is None or slot is None:
            return
        if slot_id(self._pending) <= slot <= slot_id(self._clock.now()):
            self._finish_slot(slot_id(self._pending))

    def step(self, *, may_act: bool) -> tuple[str, Run] | None:
        """Look after the command, and start it when it is due; the slot and run that ended now, if any."""
        ended = self._look_after()
        if (
            may_act
            and self._running is None
            and self._pending is not None
            and self._breaker.allows(self._clock.monotonic())
        ):
            self._start(self._pending)
        return ended

    def wants_step_at(self) -> float | None:
        """The next moment on the monotonic clock at which something is to be done; None: nothing is."""
        if self._running is not None:
            return self._clock.monotonic() + _POLL_SECONDS
        return None if self._pending is None or not self._breaker.retry_at else self._breaker.retry_at

    def stop(self) -> None:
        """Ask the command to end."""
        self._end("aborted")

    def retire(self) -> None:
        """Never be due again; what runs is asked to end."""
        self._retired, self._pending = True, None
        self.stop()

    def kill(self) -> None:
        """End the command at once."""
        if self._running is not None:
            self._running.kill()

    def state(self, next_run: datetime | None) -> JobState:
        """As a value."""
        now = self._clock.now()
        waits = self._breaker.retry_at - self._clock.monotonic()
        return JobState(
            name=self.job.name,
            schedule=str(self.job.schedule),
            unavailable=self.job.unavailable,
            next_run=next_run,
            pending_slot=None if self._pending is None else slot_id(self._pending),
            running_since=self._started_at if self._running is not None else None,
            last_run=self._last,
            last_success=self._last_success,
            failures=self._breaker.failures,
            circuit_open=self._breaker.open,
            retry_at=now + timedelta(seconds=waits) if self._breaker.failures and waits > 0 else None,
        )

    def _start(self, slot: datetime) -> None:
        self._slot = slot_id(slot)
        self._started_at = self._clock.now()
        self._started = self._clock.monotonic()
        self._asked_to_end = self._ending = None
        _log.info("job.started", job=self.job.name, slot=self._slot)
        try:
            self._running = self._runner.start(self.job.argv)
        except OSError as error:
            self._conclude(Result(1, error=f"the command could not be started: {error}"))

    def _look_after(self) -> tuple[str, Run] | None:
        if self._running is None:
            return None
        result = self._running.poll()
        if result is not None:
            self._running = None
            return self._slot, self._conclude(result)
        now = self._clock.monotonic()
        if self._asked_to_end is not None:
            if now >= self._asked_to_end + _GRACE_SECONDS:
                self._running.kill()
        elif now >= self._started + self.job.timeout.total_seconds():
            _log.error("job.timed_out", job=self.job.name, slot=self._slot, seconds=now - self._started)
            self._end("timeout")
        return None

    def _end(self, why: Outcome) -> None:
        if self._running is not None and self._asked_to_end is None:
            self._asked_to_end = self._clock.monotonic()
            self._ending = why
            self._running.terminate()

    def _conclude(self, result: Result) -> Run:
        assert self._started_at is not None  # noqa: S101  (it was started)
        run = Run(
            slot=self._slot,
            started_at=self._started_at,
            finished_at=self._clock.now(),
            seconds=self._clock.monotonic() - self._started,
            outcome=self._outcome(result),
            exit_code=result.code,
            error=result.error,
            hint=result.hint,
            document=result.document,
        )
        self._last = run
        facts = {
            "job": self.job.name,
            "slot": run.slot,
            "outcome": run.outcome,
            "seconds": round(run.seconds, 3),
        }
        if run.outcome == "waiting":
            self._breaker = self._breaker.later(self._clock.monotonic())
            _log.info("job.waiting", **facts, reason=(run.document or {}).get("reason"))
        elif run.outcome in ("ok", "skipped"):
            self._last_success = run
            if self._breaker.open:
                _log.info("job.circuit_closed", job=self.job.name)
            self._breaker = self._breaker.succeeded()
            _log.info("job.finished", **facts, reason=(run.document or {}).get("reason"))
        else:
            was_open = self._breaker.open
            self._breaker = self._breaker.failed(self._clock.monotonic())
            _log.warning("job.failed", **facts, code=run.exit_code, error=run.error, hint=run.hint)
            if self._breaker.open and not was_open:
                _log.error("job.circuit_opened", job=self.job.name, failures=self._breaker.failures)
        if run.outcome in ("ok", "skipped", "partial"):
            self._finish_slot(run.slot)
        return run

    def _outcome(self, result: Result) -> Outcome:
        if result.code == 0:
            document = result.document or {}
            if document.get("outcome") != "skipped":
                return "ok"
            return "skipped" if document.get("satisfied", True) else "waiting"
        if self._ending is not None:
            return self._ending
        return "failed" if result.document is None else "partial"

    def _finish_slot(self, slot: str) -> None:
        self._done[slot] = None
        for old in list(self._done)[:-_MOST_DONE]:
            del self._done[old]
        if self._pending is not None and slot_id(self._pending) == slot:
            self._pending = None
