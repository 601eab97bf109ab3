"""Ctrl-C and the like, for something that must clean up after itself whatever happens."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """While entered, SIGINT, SIGTERM and SIGHUP are noted; they raise KeyboardInterrupt where ``allowed``.

    They raise at most once, so that no second Ctrl-C cuts off the cleaning up after the first; one that came
    where it was not allowed raises at the end. Main thread only. A signal that was ignored stays ignored.
    """

    def __init__(self) -> None:
        self._noted = False
        self._allowed = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._noted and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come, also one whose exception Python had to swallow."""
        if self._noted:
            raise KeyboardInterrupt

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Here a signal raises at once."""
        try:
            self._allowed = True
            self.check()
            yield
        finally:
            self._allowed = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside ``allowed``: a signal waits for the end of this block."""
        self._allowed = False
        try:
            yield
        finally:
            self._allowed = True
        self.check()

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        first, self._noted = not self._noted, True
        if first and self._allowed:
            raise KeyboardInterrupt
