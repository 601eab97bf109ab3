"""``etcdguard check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from etcdguard.cli.lazy import Group
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.selection import repository_option
from etcdguard.cli.session import Session

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.maintenance.results import CheckResult

__all__ = ["command"]

_COLORS = {"OK": "green", "SKIP": "cyan", "WARN": "yellow", "FAIL": "red"}


@click.group(
    cls=Group,
    epilog="""
    Examples:
      etcdguard check cluster
      etcdguard check repository
    """,
)
def command() -> None:
    """Check the cluster, and what backups and restores depend on.

    One line for each check: OK, WARN, FAIL, or SKIP for what could not be found out. WARN and SKIP exit 0.
    """


@command.command(
    "cluster",
    epilog="""
    Examples:
      etcdguard check cluster
      etcdguard check cluster --no-hash -o json
    """,
)
@click.option(
    "--no-hash",
    is_flag=True,
    help="Do not compare the members' data, which scans each member's database once.",
)
@click.option(
    "--read-values",
    is_flag=True,
    help="Read all keys and values of one follower, also of a large database, to judge their sizes.",
)
@connection_options
@output_option
@click.pass_obj
def cluster(session: Session, /, no_hash: bool, read_values: bool) -> None:
    """Check health, consistency, size and trust of the cluster; changes nothing.

    Looks twice, checks.window apart. Exit code 13 when members hold different data, 5 for any other FAIL, 2
    when nobody answers.
    """
    from etcdguard.app import App
    from etcdguard.app_check import check_cluster

    app = App(session.load())
    _report(session, check_cluster(app, hash_kv=not no_hash, read_values=read_values))


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

    app = App(session.load())
    _report(session, list(_repository_results(app, repository)))


def _repository_results(app: App, name: str | None) -> Iterator[CheckResult]:
    from etcdguard.maintenance.repository_check import check_repository

    for catalog in app.catalogs(name):
        yield from check_repository(catalog.store, catalog.cluster, now=app.clock.now())


def _report(session: Session, results: Sequence[CheckResult]) -> None:
    """Print the lines, and raise what they amount to."""
    from etcdguard.maintenance.results import failure, overall

    document = {
        "outcome": overall(results).value,
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
    error = failure(results)
    if error is not None:
        raise error


def _table(document: Document) -> str:
    rows = [
        (
            click.style(check["outcome"], fg=_COLORS[check["outcome"]]),
            check["name"],
            check["value"]
            + (f" [{check['threshold']}]" if check["threshold"] else "")
            + (f" (hint: {check['hint']})" if check["hint"] else ""),
        )
        for check in document["checks"]
    ]
    return table(None, rows)
