"""What a person, or a log, sees of a restore while it goes on."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import click

from etcdguard.cli.output import human_duration
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError
from etcdguard.log import get_logger

if TYPE_CHECKING:
    from etcdguard.restore.crew import Watcher

__all__ = ["watcher"]

_log = get_logger()


def watcher(session: Session) -> Watcher:
    """For a person on a terminal, else for a log."""
    return _Lines() if sys.stderr.isatty() and session.verbosity >= 0 else _Events()


class _Lines:
    """For a person who watches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def phase(self, name: str) -> None:
        """See Watcher."""
        self._say(click.style(name, bold=True))

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""
        outcome = f"ok, {human_duration(seconds)}" if error is None else f"FAILED: {error.message}"
        self._say(f"  {host}: {step} {outcome}")

    def note(self, text: str) -> None:
        """See Watcher."""
        self._say(f"  note: {text}")

    def _say(self, line: str) -> None:
        with self._lock:
            click.echo(line, err=True)


class _Events:
    """For a log."""

    def phase(self, name: str) -> None:
        """See Watcher."""
        _log.info("restore.phase", phase=name)

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""
        if error is None:
            _log.info("restore.step", host=host, step=step, seconds=round(seconds, 3))
        else:
            _log.warning("restore.step_failed", host=host, step=step, error=error.message)

    def note(self, text: str) -> None:
        """See Watcher."""
        _log.warning("restore.note", note=text)
