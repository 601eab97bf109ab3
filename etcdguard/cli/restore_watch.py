"""What a person, or a log, sees of a restore while it goes on."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from etcdguard.cli.output import human_duration
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError
from etcdguard.log import get_logger

if TYPE_CHECKING:
    from etcdguard.cli.bars import HostBars
    from etcdguard.restore.crew import Watcher
    from etcdguard.restore.steps import StepProgress

__all__ = ["watcher"]

_log = get_logger()

_LOG_EVERY = 30.0
"""Seconds between log lines of one host."""


def watcher(session: Session) -> Watcher:
    """For a person on a terminal, else for a log."""
    return _Lines() if sys.stderr.isatty() and session.verbosity >= 0 else _Events()


class _Lines:
    """For a person who watches: a line for every step that has ended, and bars below while hosts fetch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: HostBars | None = None

    def phase(self, name: str) -> None:
        """See Watcher."""
        with self._lock:
            if self._bars is not None:
                self._bars.close()
                self._bars = None
        self._say(click.style(name, bold=True))

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""
        with self._lock:
            if self._bars is not None:
                self._bars.remove(host)
        outcome = f"ok, {human_duration(seconds)}" if error is None else f"FAILED: {error.message}"
        self._say(f"  {host}: {step} {outcome}")

    def progress(self, host: str, at: StepProgress) -> None:
        """See Watcher."""
        with self._lock:
            self._bars = self._bars or _host_bars()
            self._bars.update(host, at.progress, at.bytes, at.total_bytes)

    def note(self, text: str) -> None:
        """See Watcher."""
        self._say(f"  note: {text}")

    def _say(self, line: str) -> None:
        with self._lock:
            click.echo(line, err=True)


class _Events:
    """For a log."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._logged: dict[tuple[str, str], float] = {}

    def phase(self, name: str) -> None:
        """See Watcher."""
        _log.info("restore.phase", phase=name)

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""
        if error is None:
            _log.info("restore.step", host=host, step=step, seconds=round(seconds, 3))
        else:
            _log.warning("restore.step_failed", host=host, step=step, error=error.message)

    def progress(self, host: str, at: StepProgress) -> None:
        """See Watcher: every 30 s, and nothing of what takes less."""
        with self._lock:
            now = self._clock()
            if now - self._logged.setdefault((host, at.progress), now) < _LOG_EVERY:
                return
            self._logged[host, at.progress] = now
        total = at.total_bytes
        percent = {} if not total else {"percent": min(100, 100 * at.bytes // total)}
        facts = {"bytes": at.bytes, "total_bytes": total, **percent}
        _log.info("restore.progress", host=host, doing=at.progress, **facts)

    def note(self, text: str) -> None:
        """See Watcher."""
        _log.warning("restore.note", note=text)


def _host_bars() -> HostBars:
    from etcdguard.cli.bars import HostBars

    return HostBars()
