"""What somebody should be told, from what the daemon knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from etcdguard.daemon.observe.facts import RepositoryFacts, last_checks, missed_slots
from etcdguard.daemon.state import DaemonState
from etcdguard.slots import Schedule

__all__ = ["Problem", "problems"]

Severity = Literal["warning", "critical"]

_WARNING_SLOTS, _CRITICAL_SLOTS = 2, 4
"""Scheduled backups that a repository lacks."""


@dataclass(frozen=True)
class Problem:
    """``key`` names it for as long as it lasts; ``summary`` and ``hint`` are one line each."""

    key: str
    severity: Severity
    summary: str
    hint: str


def problems(
    state: DaemonState, repositories: Sequence[RepositoryFacts], schedule: Schedule | None
) -> dict[str, Problem]:
    """Everything wrong at this moment, by key. ``schedule`` is that of the backups."""
    found = [*_daemon(state), *_jobs(state), *_checks(state), *_repositories(state, repositories, schedule)]
    return {problem.key: problem for problem in found}


def _daemon(state: DaemonState) -> Iterator[Problem]:
    if state.config_problem is not None:
        yield Problem(
            "config", "warning", f"the configuration cannot be used: {state.config_problem}",
            "mend it and reload; the daemon goes on with the one before",
        )  # fmt: skip
    if state.role == "no_lock":
        yield Problem(
            "lock", "warning", f"etcd cannot be asked for the lock: {state.lock_problem}",
            "check the cluster; until then each node takes its own emergency backups",
        )  # fmt: skip


def _jobs(state: DaemonState) -> Iterator[Problem]:
    for job in state.jobs:
        if not job.failures or job.last_run is None:
            continue
        reason = job.last_run.error or f"exit code {job.last_run.exit_code}"
        times = "" if job.failures == 1 else f" {job.failures} times in a row"
        yield Problem(
            f"job:{job.name}",
            "critical" if job.circuit_open else "warning",
            f"job {job.name} failed{times}: {reason}",
            job.last_run.hint or "see the daemon's log",
        )


def _checks(state: DaemonState) -> Iterator[Problem]:
    for check in last_checks(state):
        if check.outcome in ("WARN", "FAIL"):
            severity: Severity = "critical" if check.outcome == "FAIL" else "warning"
            yield Problem(
                f"check:{check.name}", severity, f"check {check.name}: {check.value}",
                check.hint or "see docs/checks.md",
            )  # fmt: skip


def _repositories(
    state: DaemonState, repositories: Sequence[RepositoryFacts], schedule: Schedule | None
) -> Iterator[Problem]:
    for one in repositories:
        if one.error is not None:
            yield Problem(
                f"repository:{one.name}", "warning", f"repository {one.name} does not answer: {one.error}",
                "check it with `etcdguard check repository`",
            )  # fmt: skip
        if schedule is None or one.asked_at is None:
            continue
        missed = missed_slots(one, schedule, state)
        if missed < _WARNING_SLOTS:
            continue
        what = (
            "holds no backup"
            if one.newest is None
            else f"has had no new backup for {_hours(state.at - one.newest.created_at)}"
        )
        yield Problem(
            f"age:{one.name}",
            "critical" if missed >= _CRITICAL_SLOTS or one.newest is None else "warning",
            f"repository {one.name} {what}",
            "see the backup job's last error, and what waits in the spool",
        )


def _hours(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"
