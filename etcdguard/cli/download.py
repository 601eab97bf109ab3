"""``etcdguard download``."""

from __future__ import annotations

from pathlib import Path

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.selection import allow_unsigned_option, identity_option, repository_option, target_option
from etcdguard.cli.session import Session

__all__ = ["command"]


@click.command(
    "download",
    cls=Command,
    epilog="""
    Examples:
      etcdguard download latest -o snapshot.db --identity ./age-identity.txt
      etcdutl snapshot status snapshot.db
    """,
)
@click.argument("backup", metavar="ID|latest")
@target_option
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
@allow_unsigned_option
@repository_option
@identity_option
@click.pass_obj
def command(
    session: Session,
    backup: str,
    target: Path,
    force: bool,
    allow_unsigned: bool,
    repository: str | None,
    identity: Path | None,
) -> None:
    """Write a backup's plain, verified snapshot for etcdutl.

    FILE appears only when every check has passed, readable by you alone. It holds every secret of the
    cluster.
    """
    from etcdguard.app import App
    from etcdguard.download import download

    app = App(session.load())
    with session.progress() as progress:
        found = app.first_catalog(
            repository,
            lambda catalog: download(
                catalog,
                backup,
                target,
                app.identities(identity),
                progress,
                replace=force,
                allow_unsigned=allow_unsigned,
            ),
        )
    click.echo(
        f"{target}: snapshot of revision {found.manifest.snapshot.revision}, backup {found.id}", err=True
    )
