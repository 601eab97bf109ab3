"""``etcdguard backup``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.documents import backup_summary
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, human_bytes, human_duration, table
from etcdguard.cli.session import Session
from etcdguard.cli.units import rate
from etcdguard.errors import EtcdGuardError, Locked, PartialFailure, UsageError

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.backup import BackupReport
    from etcdguard.backup.ship import Delivery

__all__ = ["command"]


@click.command(
    "backup",
    cls=Command,
    epilog="""
    Examples:
      etcdguard backup
      etcdguard backup --endpoint https://10.0.0.3:2379 -o json
      etcdguard backup --emergency          # the cluster has lost its quorum
      etcdguard backup --if-due             # from a timer, on any number of nodes at once
      etcdguard backup --max-rate 50MiB     # gently: reads the member no faster
    """,
)
@click.option(
    "--endpoint", metavar="URL", help="Take the snapshot from this member, whatever backup.prefer says."
)
@click.option("--emergency", is_flag=True, help="Take it from a member without leader or quorum.")
@click.option(
    "--if-due",
    is_flag=True,
    help="Only if backup.schedule wants one now that no node has taken; else exit 0 and say why.",
)
@click.option(
    "--max-rate",
    callback=rate,
    metavar="SIZE",
    help="Read at most so much a second from the member (default backup.max_rate).",
)
@click.option("--spooled", is_flag=True, help="Ship what waits in the spool and take no new one.")
@connection_options
@output_option
@click.pass_obj
def command(
    session: Session,
    endpoint: str | None,
    emergency: bool,
    if_due: bool,
    max_rate: int | None,
    spooled: bool,
) -> None:
    """Take an encrypted snapshot and ship it to every repository.

    What an earlier run could not ship goes before it, once the snapshot is taken. Exit code 3 when some
    repositories failed: the backup stays in the spool for them, and the next run tries again.
    """
    from etcdguard.app import App
    from etcdguard.app_backup import backup_job
    from etcdguard.backup.courtesy import maintenance, step_back

    if sum(map(bool, (if_due, spooled, endpoint or emergency or max_rate))) > 1:
        raise UsageError(
            "--if-due, --spooled and --endpoint, --emergency or --max-rate do not go together",
            hint="a scheduled backup goes by backup.prefer, backup.emergency and backup.max_rate",
        )
    step_back()
    app = App(session.load())
    if if_due:
        _if_due(session, app)
    elif spooled:
        _spooled(session, app)
    else:
        with session.progress() as progress, app.etcd() as client, app.lock("maintenance") as lock:
            job = backup_job(app, client, progress, endpoint=endpoint, emergency=emergency, max_rate=max_rate)
            with nullcontext() if emergency else maintenance(lock):
                report = job.run()
        _report(session, report, {})


def _if_due(session: Session, app: App) -> None:
    from etcdguard.app_backup import backup_job, due_backup
    from etcdguard.log import get_logger

    with session.progress() as progress, app.etcd() as client, app.lock("maintenance") as lock:
        due = due_backup(app, client, progress, lock).run()
        if due.waits:  # a timer has no daemon beside it that would ship it before the next slot
            try:
                backup_job(app, client, progress).ship()
            except Locked as error:
                get_logger().info("spool.not_shipped", reason=error.message)
    if due.report is None:
        skipped = {"slot": due.slot, "satisfied": due.satisfied, "reason": due.reason}
        session.report({"outcome": "skipped", **skipped}, _skipped_table)
    else:
        _report(session, due.report, {"slot": due.slot})


def _spooled(session: Session, app: App) -> None:
    from etcdguard.app_backup import backup_job

    app.keep_to_schedule()
    with session.progress() as progress, app.etcd() as client:
        deliveries = backup_job(app, client, progress).ship()
    document = {
        "outcome": "shipped",
        "backups": [
            {"id": one.backup_id, "repositories": _outcomes(one), "superseded_by": one.superseded_by}
            for one in deliveries
        ],
    }
    session.report(document, _shipped_table)
    failed: dict[str, EtcdGuardError] = {}
    for one in deliveries:
        failed |= one.failed
    _raise_partial(failed)


def _report(session: Session, report: BackupReport, more: Document) -> None:
    document: dict[str, Any] = {
        "outcome": "created",
        "backup": backup_summary(report.backup, report.seconds),
        "repositories": _outcomes(report.delivery),
    }
    session.report({**document, **more}, _table)
    _raise_partial(report.failed)


def _outcomes(delivery: Delivery) -> list[dict[str, str]]:
    return [
        {"name": name, "outcome": "stored" if error is None else "failed"}
        | ({} if error is None else {"error": error.message})
        for name, error in delivery.outcomes.items()
    ]


def _raise_partial(failed: Mapping[str, EtcdGuardError]) -> None:
    if failed:
        reasons = "; ".join(f"{name}: {error.message}" for name, error in failed.items())
        raise PartialFailure(
            f"some repositories lack backups ({reasons})",
            hint="they stay in the spool; the next run ships them once the repository can be used again",
        )


def _skipped_table(document: Document) -> str:
    return table(None, [("skipped", document["slot"]), ("reason", document["reason"])])


def _shipped_table(document: Document) -> str:
    rows = [
        (one["id"], f"{there['name']}: {there['outcome']}")
        for one in document["backups"]
        for there in one["repositories"]
    ]
    return table(None, rows or [("spool", "nothing waits")])


def _table(document: Document) -> str:
    backup = document["backup"]
    rows = [
        ("backup", backup["id"]),
        ("revision", str(backup["revision"])),
        ("database", human_bytes(backup["db_bytes"])),
        ("stored", human_bytes(backup["stored_bytes"])),
        ("took", human_duration(backup["duration_seconds"])),
        *((f"repository {one['name']}", one["outcome"]) for one in document["repositories"]),
    ]
    return table(None, rows)
