"""How a backup stands after all its verifications: what the last word is when several have looked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

__all__ = ["Standing", "Verified", "reaches"]

_LEVELS = ("manifest", "data", "drill")


def reaches(level: str, other: str) -> bool:
    """Whether ``level`` is as deep as ``other``: manifest, data, drill."""
    return _LEVELS.index(level) >= _LEVELS.index(other)


class _Look(Protocol):
    @property
    def level(self) -> str:
        """manifest, data or drill; anything else is of a newer etcdguard."""


_Seen = TypeVar("_Seen", bound=_Look)


@dataclass(frozen=True)
class Verified:
    """What a verification at ``level`` (manifest, data or drill) said, last seen ``at``."""

    level: str
    at: datetime


@dataclass(frozen=True)
class Standing(Generic[_Seen]):
    """What verification has found of a backup."""

    sound: _Seen | None = None
    """The deepest look that found it sound since it last failed."""
    failed: _Seen | None = None
    """How it last failed, unless it was found sound since, as deep as that."""

    def proven(self, level: str) -> _Seen | None:
        """The look that found it sound, where that was as deep as ``level``."""
        return self.sound if self.sound is not None and reaches(self.sound.level, level) else None

    def after(self, look: _Seen, *, sound: bool) -> Standing[_Seen]:
        """With one look more, the newest; one at a level unknown here changes nothing."""
        if look.level not in _LEVELS:
            return self
        if not sound:
            return Standing(None, look)
        return Standing(
            look if self.sound is None or reaches(look.level, self.sound.level) else self.sound,
            None if self.failed is None or reaches(look.level, self.failed.level) else self.failed,
        )
