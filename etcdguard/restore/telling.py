"""How far a host is with a long step, told to whoever asked for it; never more than once a second."""

from __future__ import annotations

from collections.abc import Callable

from etcdguard.restore.steps import StepProgress

__all__ = ["Tell", "Telling"]

_EVERY = 1.0
"""Seconds. A fetch comes in pieces of some kilobytes: each of them told would be more traffic than news."""

Tell = Callable[[StepProgress], None]
"""Takes what is to be told. What it raises ends the step."""


class Telling:
    """See ``Progress``. The beginning of a phase is always told."""

    def __init__(self, tell: Tell, monotonic: Callable[[], float]) -> None:
        self._tell = tell
        self._monotonic = monotonic
        self._name, self._count = "", 0
        self._total: int | None = None
        self._told = 0.0

    def phase(self, name: str, total_bytes: int | None) -> None:
        """See Progress."""
        self._name, self._total, self._count = name, total_bytes, 0
        self._say()

    def advance(self, count: int) -> None:
        """See Progress."""
        self._count += count
        if self._monotonic() - self._told >= _EVERY:
            self._say()

    def done(self) -> None:
        """See Progress."""

    def _say(self) -> None:
        self._told = self._monotonic()
        self._tell(StepProgress(progress=self._name, bytes=self._count, total_bytes=self._total))
