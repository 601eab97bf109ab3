"""What several commands let the user choose: which backup, from where, opened by what, and where to."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = [
    "allow_unsigned_option",
    "backup_argument",
    "identity_option",
    "repository_option",
    "target_option",
]

repository_option = click.option(
    "--repository", metavar="NAME", help="Use this repository (default: the first that answers)."
)

identity_option = click.option(
    "--identity",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="age identity that opens the backup (default encryption.identity_file).",
)

backup_argument = click.argument("backup", metavar="[ID|latest]", default="latest")

allow_unsigned_option = click.option(
    "--allow-unsigned", is_flag=True, help="Use a backup that nobody trusted here has signed."
)

target_option = click.option(
    "-o",
    "--output",
    "target",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Where to.",
)
