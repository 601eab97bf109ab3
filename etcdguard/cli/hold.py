"""``etcdguard hold``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from etcdguard.cli.lazy import Command, Group
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.selection import repository_option
from etcdguard.cli.session import Session
from etcdguard.errors import PartialFailure, RepositoryError

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.catalog import Catalog
    from etcdguard.hold import Keeper

__all__ = ["command"]

_every_repository = click.option(
    "--repository", metavar="NAME", help="Only in this repository (default: in every configured one)."
)


@click.group(
    "hold",
    cls=Group,
    epilog="""
    Examples:
      etcdguard hold add latest --reason "before the migration"
      etcdguard hold list
    """,
)
def command() -> None:
    """Keep backups from being deleted, whatever the retention says."""


@command.command(
    "add",
    cls=Command,
    epilog="""
    Examples:
      etcdguard hold add latest --reason "before the migration"
    """,
)
@click.argument("backup", metavar="ID|latest")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded and shown by `hold list`.")
@_every_repository
@output_option
@click.pass_obj
def add_command(session: Session, backup: str, reason: str, repository: str | None) -> None:
    """Hold a backup. One that is held already stays as it is."""
    from etcdguard.app import App

    app = App(session.load())
    found = app.first_catalog(repository, lambda catalog: catalog.resolve(backup))
    _everywhere(
        session,
        app,
        repository,
        found.id,
        lambda keeper: (
            "held" if keeper.add(found.id, reason, at=app.clock.now(), actor=app.node) else "held already"
        ),
    )


@command.command(
    "remove",
    cls=Command,
    epilog="""
    Examples:
      etcdguard hold remove 20261121T020000Z-r00000000000000005033-9f31c2aa --reason "migration done"
    """,
)
@click.argument("backup", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is recorded.")
@_every_repository
@output_option
@click.pass_obj
def remove_command(session: Session, backup: str, reason: str, repository: str | None) -> None:
    """Let go of a backup: the next prune may delete it."""
    from etcdguard.app import App

    app = App(session.load())
    _everywhere(
        session,
        app,
        repository,
        backup,
        lambda keeper: (
            "removed" if keeper.remove(backup, reason, at=app.clock.now(), actor=app.node) else "not held"
        ),
    )


@command.command(
    "list",
    cls=Command,
    epilog="""
    Examples:
      etcdguard hold list -o json
    """,
)
@repository_option
@output_option
@click.pass_obj
def list_command(session: Session, repository: str | None) -> None:
    """List what is held, and why."""
    from etcdguard.app import App
    from etcdguard.hold import Keeper

    app = App(session.load())
    holds = app.first_catalog(repository, lambda catalog: Keeper(catalog, None).list())
    session.report({"holds": [asdict(hold) for hold in holds]}, _holds_table)


def _everywhere(
    session: Session, app: App, repository: str | None, backup_id: str, change: Callable[[Keeper], str]
) -> None:
    """Make a change in every repository; one that fails does not hold up the others."""
    from etcdguard.hold import Keeper

    failed: dict[str, RepositoryError] = {}

    def attempt(catalog: Catalog) -> str:
        try:
            return change(Keeper(catalog, app.signer))
        except RepositoryError as error:
            failed[catalog.store.name] = error
            return "failed"

    catalogs = app.catalogs(repository)
    outcomes = [{"name": catalog.store.name, "outcome": attempt(catalog)} for catalog in catalogs]
    if len(failed) == len(catalogs):
        raise next(iter(failed.values()))
    session.report({"id": backup_id, "repositories": outcomes}, _outcomes_table)
    if failed:
        reasons = "; ".join(f"{name}: {error.message}" for name, error in failed.items())
        raise PartialFailure(
            f"not done in every repository ({reasons})", hint="run it again: what is done stays as it is"
        )


def _holds_table(document: Document) -> str:
    rows = [
        (hold["id"], hold["at"] or "-", hold["actor"] or "-", hold["reason"] or "-")
        for hold in document["holds"]
    ]
    return table(("ID", "SINCE", "BY", "REASON"), rows) if rows else "nothing is held"


def _outcomes_table(document: Document) -> str:
    return table(
        ("REPOSITORY", document["id"]), [(one["name"], one["outcome"]) for one in document["repositories"]]
    )
