"""What a control says. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypedDict

__all__ = ["Control", "Finding", "Outcome", "Where", "conclude"]

Outcome = Literal["PASS", "FAIL", "NOT-APPLICABLE"]


class Where(TypedDict, total=False):
    """What a finding is about."""

    repository: str
    backup: str
    evidence: str


_MOST_EVIDENCE = 50


@dataclass(frozen=True)
class Finding:
    """Something that an auditor should know. A ``notice`` fails nothing."""

    code: str
    message: str
    severity: Literal["failure", "notice"] = "failure"
    integrity: bool = False
    """Whether it means that what is stored is not what was stored: exit code 13."""
    repository: str | None = None
    backup: str | None = None
    evidence: str | None = None
    """``repository:key`` of the object that shows it, or that is missing."""


@dataclass(frozen=True)
class Control:
    """One control, judged."""

    id: str
    title: str
    outcome: Outcome
    summary: str
    findings: tuple[Finding, ...] = ()
    evidence: tuple[str, ...] = ()
    """``repository:key`` of objects that were judged, the newest."""
    evidence_total: int = 0
    """How many there were."""


def conclude(
    control: str,
    title: str,
    summary: str,
    *,
    findings: Iterable[Finding] = (),
    evidence: Iterable[str] = (),
    applicable: bool = True,
) -> Control:
    """FAIL for any failure, whether the control was thought to apply or not."""
    found = tuple(findings)
    keys = tuple(dict.fromkeys(evidence))
    failed = any(one.severity == "failure" for one in found)
    outcome: Outcome = "FAIL" if failed else "PASS" if applicable else "NOT-APPLICABLE"
    return Control(control, title, outcome, summary, found, keys[-_MOST_EVIDENCE:], len(keys))
