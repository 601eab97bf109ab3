"""A restore's plan and result, for a person."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from etcdguard.cli.output import human_bytes, human_duration, table

if TYPE_CHECKING:
    from etcdguard.restore.outlook import Outlook
    from etcdguard.restore.plan import RestorePlan
    from etcdguard.restore.result import ClusterResult, HostResult, RestoreResult

__all__ = ["cluster_table", "host_table", "plan_table", "plans_table", "status_table"]


def plan_table(plan: RestorePlan, outlook: Outlook) -> str:
    """Everything a person should see before agreeing, down to the command lines."""
    bump = f" (the snapshot's {plan.snapshot_revision} + {plan.bump.revisions})" if plan.bump else ""
    facts = [
        ("plan", plan.id),
        ("backup", plan.backup_id),
        ("cluster", f"{plan.cluster_name}: {plan.old_cluster_id} becomes {plan.cluster_id}"),
        ("revision", f"{plan.revision}{bump}"),
        ("database", human_bytes(plan.db_bytes)),
        ("tool", f"{plan.tool.path} ({plan.tool.name} {plan.tool.version})"),
        ("token", plan.token),
    ]
    members = [
        (
            member.name,
            member.host or "-",
            member.member_id,
            ", ".join(member.peer_urls),
            member.data_dir,
            member.wal_dir or "-",
        )
        for member in plan.members
    ]
    steps = [
        f"{number}. {step.phase}{f' {step.member}' if step.member else ''}: {step.does}"
        for number, step in enumerate(plan.steps, 1)
    ]
    commands = [" ".join(map(shlex.quote, member.argv)) for member in plan.members]
    return "\n\n".join(
        [
            table(None, facts),
            table(("MEMBER", "HOST", "ID", "PEER URLS", "DATA DIR", "WAL DIR"), members),
            _outlook_table(outlook),
            "\n".join(steps),
            "\n".join(commands),
            "\n".join(plan.notes),
        ]
    )


def _outlook_table(outlook: Outlook) -> str:
    """What stops when, and for how long."""
    if outlook.downtime is None:
        return "etcd, and what uses it, is stopped and started by you"
    rows = [(one.host, ", ".join(one.first) or "-", ", ".join(one.etcd)) for one in outlook.stops]
    downtime = outlook.downtime
    return "\n".join(
        [
            table(("HOST", "STOPS FIRST, ON ALL HOSTS", "THEN, ON ALL HOSTS"), rows),
            f"estimated downtime: {human_duration(downtime.seconds)} ({downtime.basis})",
        ]
    )


def host_table(result: HostResult, steps: Sequence[str]) -> str:
    """One host's part: how far it is, and what is left to do, here and elsewhere."""
    state = {
        "held": "in place on this host, and held down until --start",
        "started": "in place and started on this host",
        "open": "restored on this host",
    }[result.phase]
    phases = [(name, human_duration(seconds)) for name, seconds in result.seconds.items()]
    return _result_table(result, state, phases, steps)


def cluster_table(result: ClusterResult, steps: Sequence[str]) -> str:
    """A restore over hosts: what came of it, and how long everything took."""
    phases = [(name, human_duration(seconds)) for name, seconds in result.seconds.items()]
    phases.append(("etcd was down", human_duration(result.downtime_seconds)))
    return _result_table(result, "restored", phases, steps)


def _result_table(
    result: RestoreResult, state: str, phases: Sequence[tuple[str, str]], steps: Sequence[str]
) -> str:
    proof = [(name, str(found)) for name, found in (result.proof or {}).items()]
    parts = [
        f"{result.backup_id}: {state}\ncluster {result.cluster_id}, revision {result.revision}",
        _members(result),
        table(("PROVEN", ""), proof) if proof else "",
        table(("PHASE", "TIME"), phases),
        f"fresh backup: {result.fresh_backup}" if result.fresh_backup else "",
        _numbered(steps),
    ]
    return "\n\n".join(part for part in parts if part)


def plans_table(plans: Sequence[Mapping[str, Any]]) -> str:
    """The restores this machine knows of."""
    rows = [(plan["plan"], plan["orchestrated"] or "-", plan["host"] or "-") for plan in plans]
    return table(("PLAN", "FROM HERE", "THIS HOST"), rows) if rows else "no restore was begun here"


def status_table(document: Mapping[str, Any]) -> str:
    """Where each host of a plan stands."""
    rows = [(host, one["phase"] or "?", one["problem"] or "") for host, one in document["hosts"].items()]
    return f"{document['plan']}: {document['phase']}\n\n{table(('HOST', 'PHASE', 'PROBLEM'), rows)}"


def _members(result: RestoreResult) -> str:
    rows = [
        (member.name, member.member_id, member.data_dir, ", ".join(member.kept) or "-")
        for member in result.members
    ]
    return table(("MEMBER", "ID", "DATA DIR", "OLD DIRECTORIES"), rows)


def _numbered(steps: Sequence[str]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
