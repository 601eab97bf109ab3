"""``etcdguard show``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from etcdguard.cli.documents import listed_backup, verification
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.selection import repository_option
from etcdguard.cli.session import Session

__all__ = ["command"]


@click.command(
    "show",
    cls=Command,
    epilog="""
    Examples:
      etcdguard show latest
      etcdguard show 20261121T020000Z-r00000000000000005033-9f31c2aa -o yaml
    """,
)
@click.argument("backup", metavar="ID|latest")
@repository_option
@output_option
@click.pass_obj
def command(session: Session, backup: str, repository: str | None) -> None:
    """Show one backup's manifest and what is known of it."""
    from etcdguard.app import App

    found = App(session.load()).first_catalog(repository, lambda catalog: catalog.resolve(backup))
    document = {
        "backup": listed_backup(found),
        "signature": found.signature,
        "signer": found.signer,
        "manifest": found.manifest.model_dump(mode="json"),
    }
    session.report(document, _table)


def _table(document: Document) -> str:
    backup = document["backup"]
    rows = [
        ("signature", document["signature"]),
        ("signer", document["signer"] or "-"),
        ("verified", verification(backup)),
        ("held", "yes" if backup["held"] else "-"),
    ]
    return table(None, [*rows, *_flat("", document["manifest"])])


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, item)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for index, item in enumerate(value):
            yield from _flat(f"{prefix}[{index}]", item)
    elif isinstance(value, list):
        yield prefix, ", ".join(str(item) for item in value)
    else:
        yield prefix, "-" if value is None else str(value)
