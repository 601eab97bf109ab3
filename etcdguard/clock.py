"""Time as an argument: use cases never read the wall clock themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

__all__ = ["Clock"]


class Clock(Protocol):
    """``now`` is advisory and may jump; ``monotonic`` (seconds) measures durations and never goes back."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""
