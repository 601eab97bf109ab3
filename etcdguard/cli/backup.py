"""``etcdguard backup``."""

from __future__ import annotations

import click

from etcdguard.cli.documents import backup_summary
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, human_bytes, human_duration, table
from etcdguard.cli.session import Session
from etcdguard.errors import PartialFailure

__all__ = ["command"]


@click.command(
    "backup",
    cls=Command,
    epilog="""
    Examples:
      etcdguard backup
      etcdguard backup --endpoint https://10.0.0.3:2379 -o json
      etcdguard backup --emergency          # the cluster has lost its quorum
    """,
)
@click.option(
    "--endpoint", metavar="URL", help="Take the snapshot from this member, whatever backup.prefer says."
)
@click.option("--emergency", is_flag=True, help="Take it from a member without leader or quorum.")
@connection_options
@output_option
@click.pass_obj
def command(session: Session, endpoint: str | None, emergency: bool) -> None:
    """Take an encrypted snapshot and ship it to every repository.

    What an earlier run could not ship is shipped first. Exit code 3 when some repositories failed: the backup
    stays in the spool for them, and the next run tries again.
    """
    from etcdguard.app import App

    app = App(session.load())
    with session.progress() as progress, app.etcd() as client:
        report = app.backup_job(client, progress, endpoint=endpoint, emergency=emergency).run()
    outcomes = [
        {"name": name, "outcome": "stored" if error is None else "failed"}
        | ({} if error is None else {"error": error.message})
        for name, error in report.delivery.outcomes.items()
    ]
    document = {
        "outcome": "created",
        "backup": backup_summary(report.backup, report.seconds),
        "repositories": outcomes,
    }
    session.report(document, _table)
    if report.failed:
        reasons = "; ".join(f"{name}: {error.message}" for name, error in report.failed.items())
        raise PartialFailure(
            f"some repositories lack backups ({reasons})",
            hint="they stay in the spool; the next run ships them once the repository can be used again",
        )


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
