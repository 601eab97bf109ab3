"""Asking before something is replaced."""

from __future__ import annotations

import sys

import click

from etcdguard.errors import Refused, UsageError

__all__ = ["confirm", "confirm_cluster", "require_confirmation", "yes_option"]

yes_option = click.option("--yes", is_flag=True, help="Do not ask first.")


def require_confirmation(*, yes: bool) -> None:
    """Raise UsageError, before any work, when ``--yes`` was not given and nobody can be asked."""
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm it", hint="pass --yes, or run it on a terminal")


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless ``--yes`` was given; raises Refused for a no, and UsageError where nobody can be asked."""
    require_confirmation(yes=yes)
    if not yes and not click.confirm(question, err=True):
        raise Refused("it was not confirmed", hint="nothing was changed; answer y, or pass --yes, to go on")


def confirm_cluster(name: str) -> None:
    """Have the cluster's name typed; raises Refused for anything else."""
    if click.prompt(f"Type the cluster's name ({name}) to go on", err=True) != name:
        raise Refused("that is not the cluster's name", hint="nothing was changed; see cluster.name")
