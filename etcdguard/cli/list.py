"""``etcdguard list``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.documents import listed_backup, verification
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, human_bytes, human_time, table
from etcdguard.cli.selection import repository_option
from etcdguard.cli.session import Session

if TYPE_CHECKING:
    from etcdguard.catalog import Listing

__all__ = ["command"]


@click.command(
    "list",
    cls=Command,
    epilog="""
    Examples:
      etcdguard list
      etcdguard list --repository offsite -o json | jq -r '.backups[-1].id'
      etcdguard list --all-clusters
    """,
)
@click.option("--all-clusters", is_flag=True, help="Those of every cluster in the repository, by cluster.")
@repository_option
@output_option
@click.pass_obj
def command(session: Session, repository: str | None, all_clusters: bool) -> None:
    """List the backups, oldest first.

    Only what can be restored is listed: a sound manifest, and every object it names stored with its size.
    What is damaged is told on stderr.
    """
    from etcdguard.app import App

    app = App(session.load())
    if all_clusters:
        from etcdguard.app_audit import list_fleet

        found = list_fleet(app, repository, _of_cluster)
    else:
        found = _shown(app.first_catalog(repository, lambda catalog: catalog.list()))
    session.report({"backups": found}, _table)


def _shown(listing: Listing) -> list[dict[str, Any]]:
    from etcdguard.log import get_logger

    for problem in listing.problems:
        get_logger().warning("backup.damaged", backup=problem.id, error=problem.error.message)
    return [listed_backup(backup) for backup in listing.backups]


def _of_cluster(name: str, listing: Listing) -> list[dict[str, Any]]:
    return [{"cluster": name, **backup} for backup in _shown(listing)]


def _table(document: Document) -> str:
    clusters = any("cluster" in backup for backup in document["backups"])
    headers = (
        *(["CLUSTER"] if clusters else []),
        "ID",
        "CREATED",
        "REVISION",
        "DATABASE",
        "STORED",
        "SIGNED",
        "VERIFIED",
        "HELD",
    )
    rows = [
        (
            *([backup["cluster"]] if clusters else []),
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
