"""Asking before something is replaced."""

from __future__ import annotations

import sys

import click

from etcdguard.errors import Refused, UsageError

__all__ = ["confirm_cluster", "require_confirmation"]


def require_confirmation(*, yes: bool) -> None:
    """Raise UsageError, before any work, when ``--yes`` was not given and nobody can be asked."""
    if not yes and not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm it", hint="pass --yes, or run it on a terminal")


def confirm_cluster(name: str) -> None:
    """Have the cluster's name typed; raises Refused for anything else."""
    if click.prompt(f"Type the cluster's name ({name}) to go on", err=True) != name:
        raise Refused("that is not the cluster's name", hint="nothing was changed; see cluster.name")
