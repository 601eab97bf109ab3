"""``etcdguard daemon``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.session import Session

__all__ = ["command"]


@click.command(
    "daemon",
    cls=Command,
    epilog="""
    Examples:
      etcdguard daemon
      systemctl reload etcdguard            # SIGHUP: read the configuration anew
    """,
)
@click.pass_context
def command(context: click.Context) -> None:
    """Run the jobs that have a schedule: on every node, one of them acts.

    A job is a command of its own process. SIGTERM ends what runs and then the daemon.
    """
    from etcdguard.daemon.service import Service

    session: Session = context.obj
    root = context.find_root()

    def has_command(words: Sequence[str]) -> bool:
        here: click.Command | None = root.command
        for word in words:
            here = here.get_command(root, word) if isinstance(here, click.Group) else None
        return here is not None

    flags = [f"--log-format={session.chosen_log_format()}", *_verbosity(session.verbosity)]
    Service(session.load, session.env, has_command, flags).run()


def _verbosity(level: int) -> list[str]:
    return (["-v"] if level > 0 else ["-q"]) * abs(level)
