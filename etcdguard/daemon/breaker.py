"""How long a job that failed is left alone. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Breaker"]

_OPENS_AT = 3


@dataclass(frozen=True)
class Breaker:
    """Doubling pauses after failures, and after runs that could not begin.

    Times are seconds of a clock that never goes back.

    After three failures in a row the circuit is open: it is worth saying, and the pauses go on doubling up
    to ``longest``.
    """

    shortest: float
    longest: float
    failures: int = 0
    waits: int = 0
    """Runs since the last one that began, which could not."""
    retry_at: float = 0.0

    @classmethod
    def for_period(cls, seconds: float) -> Breaker:
        """For a job that is due every so often: 1 to 30 s at first, at most half the period or 15 min."""
        shortest = min(30.0, max(1.0, seconds / 20))
        return cls(shortest, max(shortest, min(900.0, seconds / 2)))

    @property
    def open(self) -> bool:
        """Whether it has failed often enough to be left alone for longer."""
        return self.failures >= _OPENS_AT

    def allows(self, now: float) -> bool:
        """Whether it may be tried at that moment."""
        return now >= self.retry_at

    def failed(self, now: float) -> Breaker:
        """After one more failure."""
        return replace(self, failures=self.failures + 1, waits=0, retry_at=now + self._pause(self.failures))

    def later(self, now: float) -> Breaker:
        """After a run that could not begin, which is nobody's failure."""
        return replace(self, waits=self.waits + 1, retry_at=now + self._pause(self.waits))

    def succeeded(self) -> Breaker:
        """After a run that did not fail."""
        return replace(self, failures=0, waits=0, retry_at=0.0)

    def _pause(self, before: int) -> float:
        return min(self.longest, self.shortest * 2.0 ** min(before, 30))
