"""``etcdguard list``."""

from __future__ import annotations

import click

from etcdguard.cli.documents import listed_backup, verification
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, human_bytes, human_time, table
from etcdguard.cli.selection import repository_option
from etcdguard.cli.session import Session

__all__ = ["command"]


@click.command(
    "list",
    cls=Command,
    epilog="""
    Examples:
      etcdguard list
      etcdguard list --repository offsite -o json | jq -r '.backups[-1].id'
    """,
)
@repository_option
@output_option
@click.pass_obj
def command(session: Session, repository: str | None) -> None:
    """List the backups, oldest first.

    Only what can be restored is listed: a sound manifest, and every object it names stored with its size.
    What is damaged is told on stderr.
    """
    from etcdguard.app import App
    from etcdguard.log import get_logger

    listing = App(session.load()).first_catalog(repository, lambda catalog: catalog.list())
    for problem in listing.problems:
        get_logger().warning("backup.damaged", backup=problem.id, error=problem.error.message)
    session.report({"backups": [listed_backup(backup) for backup in listing.backups]}, _table)


def _table(document: Document) -> str:
    headers = ("ID", "CREATED", "REVISION", "DATABASE", "STORED", "SIGNED", "VERIFIED", "HELD")
    rows = [
        (
            backup["id"],
            human_time(backup["created_at"]),
            str(backup["revision"]),
            human_bytes(backup["db_bytes"]),
            human_bytes(backup["stored_bytes"]),
            "yes" if backup["signed"] else "NO",
            verification(backup),
            "yes" if backup["held"] else "-",
        )
        for backup in document["backups"]
    ]
    return table(headers, rows) if rows else "no backups"
