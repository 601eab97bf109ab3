"""The record of a run in the audit trail, and what is read back from the records of earlier ones. Pure."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from etcdguard.clock import instant
from etcdguard.maintenance.defrag.facts import History
from etcdguard.maintenance.defrag.plan import DefragReport

__all__ = ["KIND", "facts_of", "read_history"]

KIND = "defrag"
"""Of the events."""

_FAILED = ("partial", "failed")


def facts_of(report: DefragReport) -> dict[str, Any]:
    """What is recorded of a run, under an id of its own."""
    return {
        "run": secrets.token_hex(8),
        "cluster_id": report.plan.survey.topology.cluster_id,
        "outcome": report.outcome,
        "reason": report.reason,
        "nospace": report.plan.nospace,
        "compacted": report.compacted,
        "disarmed": report.disarmed,
        "backup": None if report.backup is None else report.backup.id,
        "seconds": round(report.seconds, 3),
        "members": [
            {
                "id": one.member.id,
                "name": one.member.name,
                "outcome": one.outcome,
                "reason": one.reason,
                "before_bytes": one.before,
                "after_bytes": one.after,
                "seconds": round(one.seconds, 3),
            }
            for one in report.results
        ],
    }


def read_history(events: Iterable[Mapping[str, Any]], cluster_id: str) -> History:
    """What the events of all repositories say of that cluster; a run may have been recorded in several.

    Interrupted runs neither open the circuit breaker nor close it.
    """
    runs = {event["run"]: event for event in events if event["cluster_id"] == cluster_id}
    last: dict[str, datetime] = {}
    failures = 0
    for event in sorted(runs.values(), key=lambda one: instant(one["at"])):
        at = instant(event["at"])
        for member in event["members"]:
            if member["outcome"] == "done":
                last[member["id"]] = at
        if event["outcome"] in _FAILED:
            failures += 1
        elif event["outcome"] == "done":
            failures = 0
    return History(last, failures)
