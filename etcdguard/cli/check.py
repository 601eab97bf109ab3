"""``etcdguard check``."""

from __future__ import annotations

import click

from etcdguard.cli.lazy import Group
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.selection import repository_option
from etcdguard.cli.session import Session
from etcdguard.errors import RepositoryError

__all__ = ["command"]

_COLORS = {"OK": "green", "WARN": "yellow", "FAIL": "red"}


@click.group(
    cls=Group,
    epilog="""
    Examples:
      etcdguard check repository
    """,
)
def command() -> None:
    """Check what backups and restores depend on."""


@command.command(
    "repository",
    epilog="""
    Examples:
      etcdguard check repository
      etcdguard check repository --repository offsite -o json
    """,
)
@repository_option
@output_option
@click.pass_obj
def repository(session: Session, repository: str | None) -> None:
    """Prove with a canary object that each repository can do all that backups need.

    Writes, refuses to overwrite, reads, lists and deletes one object under CLUSTER/checks/. Exit code 10 when
    a repository fails.
    """
    from etcdguard.app import App
    from etcdguard.maintenance.repository_check import check_repository
    from etcdguard.maintenance.results import Outcome

    app = App(session.load())
    results = [
        result
        for catalog in app.catalogs(repository)
        for result in check_repository(catalog.store, catalog.cluster, now=app.clock.now())
    ]
    found = {result.outcome.value for result in results}
    document = {
        "outcome": next(outcome for outcome in ("FAIL", "WARN", "OK") if outcome in found),
        "checks": [
            {
                "name": result.name,
                "outcome": result.outcome.value,
                "value": result.value,
                "threshold": result.threshold,
                "hint": result.hint,
            }
            for result in results
        ],
    }
    session.report(document, _table)
    failed = next((result for result in results if result.outcome is Outcome.FAIL), None)
    if failed is not None:
        raise RepositoryError(f"{failed.name}: {failed.value}", hint=failed.hint or "see the line above")


def _table(document: Document) -> str:
    rows = [
        (
            click.style(check["outcome"], fg=_COLORS[check["outcome"]]),
            check["name"],
            check["value"] + (f" (hint: {check['hint']})" if check["hint"] else ""),
        )
        for check in document["checks"]
    ]
    return table(None, rows)
