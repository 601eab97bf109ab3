"""States of a daemon, and what repositories list, for tests of how they are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from etcdguard.daemon.observe.facts import RepositoryFacts, listed
from etcdguard.daemon.state import DaemonState, JobState, Outcome, Run

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

CHECKS = {
    "outcome": "FAIL",
    "checks": [
        {"name": "quorum", "outcome": "OK", "value": "3 of 3", "threshold": None, "hint": None},
        {
            "name": "alarms",
            "outcome": "FAIL",
            "value": "NOSPACE on <cp1>",
            "threshold": "none",
            "hint": "defrag",
        },
        {"name": "disk", "outcome": "SKIP", "value": "not local", "threshold": None, "hint": None},
        {"name": "later", "outcome": "MAYBE", "value": "of another version", "hint": None},
    ],
}


def run(
    outcome: Outcome = "ok", *, document: Mapping[str, Any] | None = None, error: str | None = None
) -> Run:
    return Run(
        slot="20261121T110000Z",
        started_at=NOW - 10 * MINUTE,
        finished_at=NOW - 9 * MINUTE,
        seconds=60.5,
        outcome=outcome,
        exit_code=0 if outcome == "ok" else 10,
        error=error,
        hint=None if error is None else "mend it",
        document=document,
    )


def job(name: str = "backup", last: Run | None = None, **facts: Any) -> JobState:
    blank = JobState(
        name=name,
        schedule="1h",
        unavailable=None,
        next_run=NOW + HOUR,
        pending_slot=None,
        running_since=None,
        last_run=last,
        last_success=last if last is not None and last.outcome == "ok" else None,
        failures=0,
        circuit_open=False,
        retry_at=None,
    )
    return replace(blank, **facts)


def state(*jobs: JobState, **facts: Any) -> DaemonState:
    blank = DaemonState(
        at=NOW,
        started_at=NOW - 24 * HOUR,
        node="cp1",
        cluster="prod",
        version="1.0",
        role="leader",
        holder="cp1",
        lock_problem=None,
        config_loaded_at=NOW,
        config_problem=None,
        stopping=False,
        jobs=jobs,
    )
    return replace(blank, **facts)


def listing(*ages: timedelta, verified: str | None = None) -> dict[str, Any]:
    """What ``etcdguard list`` prints of backups so old, oldest first."""
    return {
        "schema_version": 1,
        "backups": [
            {
                "id": f"backup-{number}",
                "created_at": (NOW - age).isoformat().replace("+00:00", "Z"),
                "revision": 100 + number,
                "cluster_id": "abc",
                "db_bytes": 1_000_000 * (number + 1),
                "total_keys": 50 + number,
                "stored_bytes": 1000,
                "signed": True,
                "verified_level": verified,
                "verified_at": None if verified is None else (NOW - MINUTE).isoformat(),
                "held": False,
            }
            for number, age in enumerate(ages)
        ],
    }


def repository(*ages: timedelta, name: str = "main", **facts: Any) -> RepositoryFacts:
    return listed(name, listing(*ages, **facts), NOW)
