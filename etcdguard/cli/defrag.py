"""``etcdguard defrag``."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.interrupts import held_back
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, human_bytes, human_duration, table
from etcdguard.cli.session import Session
from etcdguard.errors import ClusterUnhealthy, Interrupted, PartialFailure

if TYPE_CHECKING:
    from etcdguard.maintenance.defrag.facts import Policy
    from etcdguard.maintenance.defrag.plan import DefragReport
    from etcdguard.maintenance.defrag.select import Decision

__all__ = ["command"]


@click.command(
    "defrag",
    cls=Command,
    epilog="""
    Examples:
      etcdguard defrag --dry-run
      etcdguard defrag
      etcdguard defrag -o json
    """,
)
@click.option(
    "--dry-run", is_flag=True, help="Say for each member what would happen and why; change nothing."
)
@click.option("--ignore-failures", is_flag=True, help="Go on although the last three runs failed.")
@connection_options
@output_option
@click.pass_obj
def command(session: Session, dry_run: bool, ignore_failures: bool) -> None:
    """Defragment the members that are worth it, one after the other.

    Followers first; the leader last, after it has handed over. In a cluster that is out of space, old history
    is compacted first, and the alarm disarmed in the end. Ctrl-C ends it between two members. Exit code 3
    when only some were defragmented, 5 when the cluster is not fit for it, 15 when a rule says no.
    """
    from etcdguard.app import App
    from etcdguard.app_defrag import defrag_job, policy_of
    from etcdguard.maintenance.defrag.guards import raise_problems

    app = App(session.load())
    policy = policy_of(app)
    if ignore_failures:
        policy = replace(policy, max_failures=sys.maxsize)

    def tell(line: str) -> None:
        if session.verbosity >= 0:
            click.echo(line, err=True)

    with session.progress() as progress, app.etcd_admin() as client:
        # The lock has to outlive the member that is configured here while that one is blocked.
        everywhere = (url for member in client.topology().members for url in member.client_urls)
        with app.lock("maintenance", tuple(dict.fromkeys((*client.endpoints, *everywhere)))) as lock:
            job = defrag_job(app, client, lock, policy, progress, shield=_shield, tell=tell)
            report = job.plan() if dry_run else job.run()
    session.report(_document(report, policy), _table)
    if report.outcome == "planned" and not report.plan.empty:
        raise_problems(report.plan.problems)
    _raise_outcome(report)


def _shield(member: str, timeout: float) -> AbstractContextManager[None]:
    return held_back(
        f"{member} is being defragmented, which cannot be stopped: ending when it is done,"
        f" usually within {human_duration(timeout)}"
    )


def _raise_outcome(report: DefragReport) -> None:
    why = report.reason or "no reason"
    done = [one.member.name for one in report.results if one.outcome == "done"]
    so_far = f"defragmented: {', '.join(done) or 'none'}"
    if report.outcome == "interrupted":
        raise Interrupted(f"interrupted; {so_far}", hint="run it again: it goes on with the others")
    if report.outcome == "partial":
        raise PartialFailure(f"{why}; {so_far}", hint="see to that first; a later run does the others")
    if report.outcome == "failed":
        raise ClusterUnhealthy(
            why, hint="see that the cluster is sound (etcdctl endpoint status), then retry"
        )


def _document(report: DefragReport, policy: Policy) -> dict[str, Any]:
    plan, backup = report.plan, report.backup
    return {
        "outcome": report.outcome,
        "cluster_id": plan.survey.topology.cluster_id,
        "nospace": plan.nospace,
        "compacted": report.compacted,
        "disarmed": report.disarmed,
        "backup": None
        if backup is None
        else {"id": backup.id, "created_at": backup.created_at, "level": backup.level},
        "problems": [{"problem": one.text, "hint": one.hint} for one in plan.problems],
        "members": [
            _member(report, decision, policy, number) for number, decision in enumerate(plan.decisions, 1)
        ],
        "reason": report.reason,
        "seconds": round(report.seconds, 3),
    }


def _member(report: DefragReport, decision: Decision, policy: Policy, number: int) -> dict[str, Any]:
    facts, result = decision.member, report.result(decision.member.id)
    status = facts.status
    leads = facts.id == report.plan.survey.leader_id
    return {
        "id": facts.id,
        "name": facts.name,
        "role": "learner" if facts.member.is_learner else "leader" if leads else "follower",
        "action": "defragment" if decision.chosen else "skip",
        "why": decision.reason,
        "order": number if decision.chosen else None,
        "db_bytes": None if status is None else status.db_size,
        "in_use_bytes": None if status is None else status.db_size_in_use,
        "quota_bytes": facts.quota,
        "estimate_seconds": None if status is None else round(policy.estimate(status.db_size), 3),
        "outcome": None if result is None else result.outcome,
        "problem": None if result is None else result.reason,
        "after_bytes": None if result is None else result.after,
        "seconds": None if result is None else round(result.seconds, 3),
    }


def _table(document: Document) -> str:
    rows = [
        (
            str(one["order"] or "-"),
            one["name"],
            one["role"],
            "-" if one["db_bytes"] is None else human_bytes(one["db_bytes"]),
            "-" if one["in_use_bytes"] is None else human_bytes(one["in_use_bytes"]),
            _did(one) if document["outcome"] != "planned" else one["action"],
            one["problem"] or one["why"],
        )
        for one in document["members"]
    ]
    text = table(("ORDER", "MEMBER", "ROLE", "SIZE", "IN USE", "ACTION", "WHY"), rows)
    notes = [f"not now: {one['problem']}" for one in document["problems"]]
    if document["outcome"] == "nothing":
        notes = ["nothing to do"]  # what else there is to say does not matter then
    if document["nospace"]:
        notes.insert(0, _nospace(document))
    if document["outcome"] == "planned" and any(one["order"] for one in document["members"]):
        backup = document["backup"]
        notes.append(f"backup: {backup['id'] if backup else 'none is young enough, one would be taken'}")
    return "\n\n".join([text, "\n".join(notes)] if notes else [text])


def _did(member: Document) -> str:
    if member["outcome"] == "done":
        return f"{human_bytes(member['after_bytes'])} after {human_duration(member['seconds'])}"
    return member["outcome"] or ("not done" if member["order"] else "skip")


def _nospace(document: Document) -> str:
    if document["disarmed"]:
        return f"NOSPACE: history before revision {document['compacted']} compacted, the alarm is disarmed"
    if document["outcome"] == "planned":
        return "NOSPACE: old history would be compacted first, and the alarm disarmed in the end"
    return "NOSPACE: the alarm is still raised"
