"""When a check warns and when it fails: defaults, and what a configuration may put in their place. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from etcdguard.human import human_bytes, human_duration
from etcdguard.maintenance.results import Outcome

__all__ = ["LIMITS", "Level", "Limits", "Senseless", "Thresholds", "Unit"]

Unit = Literal["seconds", "share", "bytes", "number"]
Level = Literal["warn", "fail"]


class Senseless(ValueError):
    """Limits that cannot be meant; ``hint`` says what would be."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True)
class Limits:
    """Past ``warn`` a value is a WARN, past ``fail`` a FAIL; None: never. At a limit it is still good."""

    unit: Unit
    warn: float | None
    fail: float | None = None
    falling: bool = False
    """The value is bad when it is less than the limits, not more."""

    def judge(self, value: float) -> Outcome:
        """What that value is."""
        if self._is_past(value, self.fail):
            return Outcome.FAIL
        return Outcome.WARN if self._is_past(value, self.warn) else Outcome.OK

    def worse(self, one: float, other: float) -> bool:
        """Whether ``one`` is worse than ``other``."""
        return one < other if self.falling else one > other

    def __str__(self) -> str:
        sign = "<" if self.falling else ">"
        levels = (("warn", self.warn), ("fail", self.fail))
        return ", ".join(f"{name} {sign} {self.text(at)}" for name, at in levels if at is not None) or "off"

    def text(self, value: float) -> str:
        """A value in this unit, for a reader."""
        if self.unit == "seconds":
            return f"-{human_duration(-value)}" if value < 0 else human_duration(value)
        if self.unit == "bytes":
            return human_bytes(round(value))
        return f"{100 * value:.3g} %" if self.unit == "share" else f"{value:.6g}"

    def but(self, levels: Mapping[Level, float | None]) -> Limits:
        """The same with these levels replaced. Raises Senseless."""
        made = Limits(
            self.unit, levels.get("warn", self.warn), levels.get("fail", self.fail), falling=self.falling
        )
        given = [level for level in (made.warn, made.fail) if level is not None]
        if any(not math.isfinite(level) or level < 0 for level in given):
            raise Senseless("a limit is a finite number that is not negative", f"the default is {self}")
        if self.unit == "share" and any(not 0 < level <= 1 for level in given):
            raise Senseless("a share lies above 0 and is at most 1", f"the default is {self}")
        if made.warn is not None and made.fail is not None and made.worse(made.warn, made.fail):
            raise Senseless(
                f"it would fail before it warns: {made}",
                "set both, fail past warn; null switches one of them off",
            )
        return made

    def _is_past(self, value: float, limit: float | None) -> bool:
        return limit is not None and self.worse(value, limit)


_DAY = 86400.0

LIMITS: Mapping[str, Limits] = {
    "leader_changes": Limits("number", 3),
    "unapplied": Limits("number", 100, 5000),
    "failed_proposals": Limits("number", 5),
    "wal_fsync": Limits("seconds", 0.1, 1.0),
    "backend_commit": Limits("seconds", 0.25),
    "peer_round_trip": Limits("seconds", 0.15),
    "database_quota": Limits("share", 0.80, 0.95),
    "quota_forecast": Limits("seconds", 7 * _DAY, falling=True),
    "key_growth": Limits("share", 0.20),
    "value_size": Limits("bytes", 1024 * 1024, 1400 * 1024),
    "prefix_share": Limits("share", 0.50),
    "clock": Limits("seconds", 1.0),
    "certificates": Limits("seconds", 30 * _DAY, 1 * _DAY, falling=True),
    "disk": Limits("share", 0.10, falling=True),
    "backup_age": Limits("seconds", 1 * _DAY),
    "verified_age": Limits("seconds", 2 * _DAY),
}
"""By the name of the check; units and meaning in docs/checks.md."""


@dataclass(frozen=True)
class Thresholds:
    """All limits, some of them perhaps configured."""

    configured: Mapping[str, Limits] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Limits:
        return self.configured.get(name) or LIMITS[name]
