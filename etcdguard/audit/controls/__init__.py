"""The controls, each a pure function from a case to its judgment, in the order of the report."""

from __future__ import annotations

from collections.abc import Callable

from etcdguard.audit.case import Case
from etcdguard.audit.controls import proof, retention, schedule, stored, trail
from etcdguard.audit.judgment import Control

__all__ = ["CONTROLS", "judge"]

CONTROLS: tuple[Callable[[Case], Control], ...] = (
    stored.readable,
    schedule.on_schedule,
    schedule.recovery_point,
    stored.sound,
    stored.signed,
    stored.encrypted,
    stored.locked,
    stored.copied,
    trail.chained,
    trail.deletions,
    trail.complete,
    trail.held,
    retention.kept_to,
    proof.verified,
    proof.drilled,
)


def judge(case: Case) -> tuple[Control, ...]:
    """Every control of one cluster."""
    return tuple(control(case) for control in CONTROLS)
