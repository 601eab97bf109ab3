"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["PLENTY", "eventually"]

PLENTY = 120.0
"""Seconds: what takes longer does not happen."""


def eventually(happened: Callable[[], bool], what: str, seconds: float = PLENTY) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
