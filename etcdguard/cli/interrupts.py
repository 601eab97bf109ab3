"""Holding back Ctrl-C and SIGTERM while something runs that cannot be stopped half-way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["held_back"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back(answer: str) -> Iterator[None]:
    """A signal that comes while the block runs is answered on stderr, and interrupts when the block ends.

    Only in the main thread. An error that the block raises goes before the signal.
    """
    caught = False

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal caught
        caught = True
        # Not by way of sys.stderr: the handler may run in the midst of a write to it.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{answer}\n".encode())

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        raise KeyboardInterrupt
