"""``etcdguard verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.selection import identity_option, repository_option
from etcdguard.cli.session import Session
from etcdguard.errors import Corruption, UsageError

if TYPE_CHECKING:
    from etcdguard.catalog import Catalog
    from etcdguard.verify import VerifyResult

__all__ = ["command"]


@click.command(
    "verify",
    cls=Command,
    epilog="""
    Examples:
      etcdguard verify latest --level data
      etcdguard verify --all --repository offsite -o json
    """,
)
@click.argument("backup", metavar="[ID|latest]", required=False)
@click.option("--all", "every", is_flag=True, help="Verify every backup of the repository.")
@click.option(
    "--level",
    type=click.Choice(["manifest", "data"]),
    default="data",
    show_default=True,
    help="manifest: signature, chain, sizes. data: also every byte, and the database's structure.",
)
@repository_option
@identity_option
@output_option
@click.pass_obj
def command(
    session: Session,
    backup: str | None,
    every: bool,
    level: Literal["manifest", "data"],
    repository: str | None,
    identity: Path | None,
) -> None:
    """Prove that backups are what their manifests say (default: the latest).

    Exit code 13 when anything is wrong. The results are recorded in the repository as a signed event.
    """
    from etcdguard.app import App

    if every and backup is not None:
        raise UsageError("--all and a backup exclude each other", hint="give one of them")
    app = App(session.load())
    with session.progress() as progress:

        def use(catalog: Catalog) -> list[VerifyResult]:
            verifier = app.verifier(catalog, progress, identity)
            results = verifier.every(level) if every else verifier.one(backup or "latest", level)
            app.record_verification(catalog, results)
            return results

        results = app.first_catalog(repository, use)
    document = {
        "results": [
            {"id": one.id, "level": one.level, "outcome": one.outcome, "problems": list(one.problems)}
            for one in results
        ]
    }
    session.report(document, _table)
    failed = [one for one in results if one.problems]
    if failed:
        raise Corruption(
            f"{len(failed)} of {len(results)} backups failed verification",
            hint="take a new backup now; restore only from one that is sound, or from another repository",
        )


def _table(document: Document) -> str:
    rows = [
        (one["id"], one["level"], one["outcome"], "; ".join(one["problems"]) or "-")
        for one in document["results"]
    ]
    return table(("ID", "LEVEL", "OUTCOME", "PROBLEMS"), rows) if rows else "no backups"
