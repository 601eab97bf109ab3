"""What a repository holds, as the status page and the metrics need it. Values only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from etcdguard.clock import instant
from etcdguard.daemon.state import DaemonState
from etcdguard.slots import Schedule

__all__ = [
    "Check",
    "CheckOutcome",
    "ListedBackup",
    "RepositoryFacts",
    "last_checks",
    "listed",
    "missed_slots",
]

CheckOutcome = Literal["OK", "WARN", "FAIL", "SKIP"]
_OUTCOMES: tuple[CheckOutcome, ...] = get_args(CheckOutcome)

_MOST_MISSED = 100
_REMEMBERED = 200
"""Backups of each repository that are remembered one by one, the newest."""


@dataclass(frozen=True)
class ListedBackup:
    """One backup as ``etcdguard list`` tells of it. Sizes in bytes."""

    id: str
    created_at: datetime
    revision: int
    db_bytes: int
    stored_bytes: int
    total_keys: int
    verified_level: str | None
    verified_at: datetime | None


@dataclass(frozen=True)
class RepositoryFacts:
    """One repository when it was last asked. ``backups`` are the newest, oldest first."""

    name: str
    asked_at: datetime | None = None
    """None: it has not answered since the daemon was started."""
    error: str | None = None
    """Why it did not answer the last time; the other facts are then those of the time before."""
    count: int = 0
    stored_bytes: int = 0
    backups: tuple[ListedBackup, ...] = field(default=())

    @property
    def newest(self) -> ListedBackup | None:
        """The newest backup in restore order."""
        return self.backups[-1] if self.backups else None

    def verified_at(self, *levels: str) -> datetime | None:
        """When a backup was last found sound at one of these levels."""
        times = [one.verified_at for one in self.backups if one.verified_at and one.verified_level in levels]
        return max(times, default=None)


def listed(name: str, document: Mapping[str, Any], at: datetime) -> RepositoryFacts:
    """From what ``etcdguard list -o json`` printed; KeyError, TypeError or ValueError for anything else."""
    backups = document["backups"]
    return RepositoryFacts(
        name=name,
        asked_at=at,
        count=len(backups),
        stored_bytes=sum(one["stored_bytes"] for one in backups),
        backups=tuple(_backups(backups[-_REMEMBERED:])),
    )


def _backups(documents: Iterable[Mapping[str, Any]]) -> Iterable[ListedBackup]:
    for one in documents:
        verified_at = one["verified_at"]
        yield ListedBackup(
            id=one["id"],
            created_at=instant(one["created_at"]),
            revision=one["revision"],
            db_bytes=one["db_bytes"],
            stored_bytes=one["stored_bytes"],
            total_keys=one["total_keys"],
            verified_level=one["verified_level"],
            verified_at=None if verified_at is None else instant(verified_at),
        )


def missed_slots(one: RepositoryFacts, schedule: Schedule, state: DaemonState) -> int:
    """How many backups the repository should have had since its newest, at most 100.

    One may just be in the making. A repository without any is measured from the daemon's start.
    """
    since = state.started_at if one.newest is None else one.newest.created_at
    return len(schedule.between(since, state.at, most=_MOST_MISSED))


@dataclass(frozen=True)
class Check:
    """One line of the latest ``etcdguard check cluster``."""

    name: str
    outcome: CheckOutcome
    value: str
    hint: str | None


def last_checks(state: DaemonState) -> tuple[Check, ...]:
    """What the check job found in its latest run that reported anything."""
    runs = [job.last_run for job in state.jobs if job.name == "check" and job.last_run is not None]
    documents = [run.document for run in runs if run.document is not None]
    return tuple(
        Check(str(one["name"]), one["outcome"], str(one["value"]), one.get("hint"))
        for document in documents
        for one in document.get("checks", ())
        if one.get("outcome") in _OUTCOMES
    )
