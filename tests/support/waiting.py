"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["PLENTY", "alive", "eventually"]

PLENTY = 120.0
"""Seconds: what takes longer does not happen."""


def eventually(happened: Callable[[], bool], what: str, seconds: float = PLENTY) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether that process runs. A zombie does not: in a container nobody may be there to reap orphans."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
