"""What a restore did: for reports, and for the audit trail."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from etcdguard.model import HexId
from etcdguard.restore.plan import PlannedMember, RestorePlan

__all__ = ["ClusterResult", "HostResult", "RestoreResult", "RestoredMember", "event_facts", "restored_member"]


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class RestoredMember(_Fact):
    """A member that stands restored."""

    name: str
    member_id: HexId
    data_dir: str
    wal_dir: str | None
    kept: tuple[str, ...]
    """Where its old directories are now; empty when it had none."""


class RestoreResult(_Fact):
    """What a run did."""

    plan_id: str
    backup_id: str
    cluster_id: HexId
    revision: int
    members: tuple[RestoredMember, ...]
    started_at: AwareDatetime
    finished_at: AwareDatetime
    seconds: dict[str, float]
    """How long each phase took."""
    proof: dict[str, Any] | None
    """What the running cluster showed; None where it was not asked, as etcd is the operator's to start."""
    record_problem: str | None = None
    """Why the restore, though done, could not be recorded in the repository."""
    fresh_backup: str | None = None
    """The id of the backup that was taken of the restored cluster."""
    fresh_backup_problem: str | None = None


class ClusterResult(RestoreResult):
    """What a restore over all hosts did."""

    hosts: dict[str, tuple[str, ...]]
    """Each host's members."""
    downtime_seconds: float
    """From the first thing stopped until everything was open again, in this run."""


class HostResult(RestoreResult):
    """What one host's part of a restore did, where no machine reaches all hosts."""

    host: str
    phase: Literal["held", "started", "open"]
    """In place and held down; started; or all that was to be done here."""


def restored_member(member: PlannedMember) -> RestoredMember:
    """The facts of a member that was just swapped in, here."""
    return RestoredMember(
        name=member.name,
        member_id=member.member_id,
        data_dir=member.data_dir,
        wal_dir=member.wal_dir,
        kept=tuple(str(place.kept) for place in member.places if os.path.lexists(place.kept)),
    )


def event_facts(plan: RestorePlan, result: RestoreResult) -> dict[str, Any]:
    """What the audit trail keeps: the result, and what tells this restore from others."""
    problems = {"record_problem", "fresh_backup", "fresh_backup_problem"}
    return {
        **result.model_dump(mode="json", exclude=problems),
        "old_cluster_id": plan.old_cluster_id,
        "token": plan.token,
        "bump_revisions": plan.bump.revisions if plan.bump else 0,
        "tool": f"{plan.tool.name} {plan.tool.version}",
    }
