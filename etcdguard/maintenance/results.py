"""What a check reports: one named line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from etcdguard.errors import Corruption, EtcdGuardError

__all__ = ["CheckResult", "Outcome", "failure", "overall"]


class Outcome(str, Enum):
    """How a check went. WARN works today and will not always; SKIP could not be made, and proves nothing."""

    OK = "OK"
    SKIP = "SKIP"
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
    error: type[EtcdGuardError] = EtcdGuardError
    """What a FAIL amounts to, which decides the exit code."""


def overall(results: Iterable[CheckResult]) -> Outcome:
    """The worst of them; SKIP only where nothing could be checked at all."""
    found = {result.outcome for result in results}
    if found == {Outcome.SKIP}:
        return Outcome.SKIP
    return next((one for one in (Outcome.FAIL, Outcome.WARN) if one in found), Outcome.OK)


def failure(results: Iterable[CheckResult]) -> EtcdGuardError | None:
    """What the checks amount to: corruption if there is any, else the first FAIL; None without one."""
    failed = [result for result in results if result.outcome is Outcome.FAIL]
    if not failed:
        return None
    first = next((one for one in failed if one.error is Corruption), failed[0])
    return first.error(f"{first.name}: {first.value}", hint=first.hint or "docs/checks.md says what it means")
