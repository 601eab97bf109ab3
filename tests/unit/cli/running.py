"""Run a command line inside the test process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from etcdguard.cli import main as frame

MINIMAL = "cluster: {name: prod}\nencryption: {disabled: true}\n"


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without what would configure etcdguard or etcdctl."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ETCDGUARD_", "ETCDCTL_"))
    }
    return kept | variables


def run(*args: str | Path, **variables: str) -> int:
    return frame.run([str(arg) for arg in args], environment(**variables))


def every_command() -> Iterator[tuple[str, click.Command]]:
    """All commands and subcommands by their full name."""
    context = click.Context(frame.cli)
    for name in frame.COMMANDS:
        command = frame.cli.get_command(context, name)
        assert command is not None
        yield from _below(name, command)


def _below(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _below(f"{path} {name}", child)
