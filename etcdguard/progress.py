"""How far a long step has come: what use cases report to, and the sink for those who do not watch."""

from __future__ import annotations

from typing import Protocol

__all__ = ["NoProgress", "Progress"]


class Progress(Protocol):
    """Told of one phase after the other. Every method may be called from any thread."""

    def phase(self, name: str, total_bytes: int | None) -> None:
        """A phase begins, and the one before it has ended; ``total_bytes`` is None where it is not known."""

    def advance(self, count: int) -> None:
        """``count`` more bytes of the phase are through."""

    def done(self) -> None:
        """The last phase has ended."""


class NoProgress:
    """Nobody watches."""

    def phase(self, name: str, total_bytes: int | None) -> None:
        """See Progress."""

    def advance(self, count: int) -> None:
        """See Progress."""

    def done(self) -> None:
        """See Progress."""
