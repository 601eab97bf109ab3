"""What a check reports: one named line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["CheckResult", "Outcome"]


class Outcome(str, Enum):
    """How a check went; WARN works today and will not always."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class CheckResult:
    """``value`` is what was found, ``threshold`` what was wanted where there is one, ``hint`` what to try."""

    name: str
    outcome: Outcome
    value: str
    threshold: str | None = None
    hint: str | None = None
