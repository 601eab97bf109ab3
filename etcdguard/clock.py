"""Time as an argument: use cases never read the wall clock themselves."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

__all__ = ["Clock", "instant"]


class Clock(Protocol):
    """``now`` is advisory and may jump; ``monotonic`` (seconds) measures durations and never goes back."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment."""


def instant(text: str) -> datetime:
    """A moment as documents write it, in ISO 8601. Raises ValueError."""
    # Python 3.10 does not read the Z that pydantic writes.
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)
