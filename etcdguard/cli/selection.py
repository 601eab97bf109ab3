"""Options that choose among what the configuration offers, passed on to the command function."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["identity_option", "repository_option"]

repository_option = click.option(
    "--repository", metavar="NAME", help="Use this repository (default: the first that answers)."
)

identity_option = click.option(
    "--identity",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="age identity that opens the backup (default encryption.identity_file).",
)
