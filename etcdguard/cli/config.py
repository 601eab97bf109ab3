"""``etcdguard config``."""

from __future__ import annotations

import json
from typing import Any

import click

from etcdguard.cli.lazy import Group
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.session import Session

__all__ = ["command"]


@click.group(
    cls=Group,
    epilog="""
    Examples:
      etcdguard config validate
      etcdguard config show -o yaml
    """,
)
def command() -> None:
    """Check or show the configuration."""


@command.command(
    "validate",
    epilog="""
    Examples:
      etcdguard config validate
      etcdguard config validate --config ./new.yaml && mv new.yaml /etc/etcdguard/config.yaml
    """,
)
@connection_options
@output_option
@click.pass_obj
def validate(session: Session) -> None:
    """Check the configuration and change nothing.

    Exit code 64 and every problem on one line if it cannot be used.
    """
    loaded = session.load()
    document = {"path": loaded.path, "outcome": "ok", "repositories": len(loaded.config.repositories)}
    session.report(document, lambda _: f"{loaded.path}: ok")


@command.command(
    "show",
    epilog="""
    Examples:
      etcdguard config show
      ETCDCTL_ENDPOINTS=https://10.0.0.2:2379 etcdguard config show | grep endpoints
      etcdguard config show -o json | jq .origins
    """,
)
@connection_options
@output_option
@click.pass_obj
def show(session: Session) -> None:
    """Show the configuration in effect and where each value comes from.

    Secrets are redacted.
    """
    from etcdguard.config.document import dotted
    from etcdguard.config.load import walk
    from etcdguard.config.show import plain, redacted

    loaded = session.load()

    def rows(_: Document) -> str:
        values = [(dotted(where), plain(value, str(where[-1]))) for where, value in walk(loaded.config)]
        return table(
            ("KEY", "VALUE", "ORIGIN"), [(key, _cell(value), loaded.origins[key]) for key, value in values]
        )

    document = {"path": loaded.path, "config": redacted(loaded.config), "origins": dict(loaded.origins)}
    session.report(document, rows)


def _cell(value: Any) -> str:
    if value is None or value == [] or value == {}:
        return "-"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
