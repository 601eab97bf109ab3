"""What a daemon knows of itself, as one value: for logs, metrics and status pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

__all__ = ["DaemonState", "JobState", "Outcome", "Role", "Run"]

Role = Literal["leader", "standby", "no_lock"]
"""``standby``: another daemon has the lock. ``no_lock``: etcd cannot be asked who has it."""

Outcome = Literal["ok", "skipped", "waiting", "partial", "failed", "timeout", "aborted"]
"""``skipped``: the slot has what it wants. ``waiting``: it could not begin yet, and is tried again.
``partial``: it did its work and reported, and not all is well (a repository that failed, a check, a backup
that is not sound). ``aborted``: by us."""


@dataclass(frozen=True)
class Run:
    """One finished run of a job."""

    slot: str
    started_at: datetime
    finished_at: datetime
    seconds: float
    outcome: Outcome
    exit_code: int
    error: str | None
    hint: str | None
    document: Mapping[str, Any] | None
    """What the command reported (docs/json.md)."""


@dataclass(frozen=True)
class JobState:
    """One job and its latest runs."""

    name: str
    schedule: str | None
    """As configured; None for a job that is not scheduled."""
    unavailable: str | None
    """Why a scheduled job cannot run in this version."""
    next_run: datetime | None
    pending_slot: str | None
    """The slot that is due and not done yet; a standby waits with it."""
    running_since: datetime | None
    last_run: Run | None
    last_success: Run | None
    """The newest run that ended ``ok`` or ``skipped``."""
    failures: int
    """Consecutive failed runs."""
    circuit_open: bool
    """After several failures: only tried again at ``retry_at``."""
    retry_at: datetime | None


@dataclass(frozen=True)
class DaemonState:
    """Everything, at one moment."""

    at: datetime
    started_at: datetime
    node: str
    cluster: str
    version: str
    role: Role
    holder: str | None
    """Who leads, as the lock says; None when that is not known."""
    lock_problem: str | None
    """Why no lock can be had, in role ``no_lock``."""
    config_loaded_at: datetime
    config_problem: str | None
    """Why the newest reload kept the old configuration."""
    stopping: bool
    jobs: tuple[JobState, ...]

    def job(self, name: str) -> JobState:
        """The job of that name; raises KeyError."""
        for job in self.jobs:
            if job.name == name:
                return job
        raise KeyError(name)
