"""The options of ``restore``, ``restore plan`` and ``restore run``, and how the three share one name."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import click

from etcdguard.cli.confirm import yes_option
from etcdguard.cli.selection import allow_unsigned_option, identity_option
from etcdguard.errors import UsageError

__all__ = [
    "here_options",
    "live_quorum_option",
    "plan_options",
    "run_options",
    "ssh_options",
    "tool_option",
]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _directories(
    _context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    found = {}
    for value in values:
        name, separator, directory = value.partition("=")
        if not (name and separator and directory):
            flag = parameter.opts[0]
            raise UsageError(f"{flag} {value!r} is not NAME=DIR", hint=f"for example {flag} m1=/var/lib/etcd")
        found[name] = directory
    return found


def _moves(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    from etcdguard.restore.moves import read_moves

    return read_moves(values)


def _together(*decorators: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    return lambda function: reduce(lambda inner, one: one(inner), reversed(decorators), function)


here_options = _together(
    click.option(
        "--member",
        "names",
        multiple=True,
        metavar="NAME",
        help="Restore this member, which lives on this machine; may be repeated.",
    ),
    click.option(
        "--all",
        "every",
        is_flag=True,
        help="Restore all members: those on other hosts over ssh, the others here.",
    ),
    click.option(
        "--start",
        is_flag=True,
        help="With --member: also start it, which is to be done when the new directories are in place on "
        "all hosts; then wait until the cluster is whole, prove it, and start what uses it.",
    ),
    click.option("--no-wait", is_flag=True, help="With --start: only start it."),
)

ssh_options = _together(
    click.option(
        "--ssh-config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The configuration for ssh, instead of ~/.ssh/config.",
    ),
    click.option(
        "--remote-command",
        default="etcdguard",
        show_default=True,
        metavar="COMMAND",
        help="What runs etcdguard on the other hosts, e.g. `sudo etcdguard`.",
    ),
    click.option(
        "--remote-config", metavar="PATH", help="The configuration of etcdguard on the other hosts."
    ),
)

plan_options = _together(
    click.option(
        "--data-dir",
        "data_dirs",
        multiple=True,
        metavar="NAME=DIR",
        callback=_directories,
        help="A member's data directory (default: the configuration's, else /var/lib/etcd).",
    ),
    click.option(
        "--wal-dir",
        "wal_dirs",
        multiple=True,
        metavar="NAME=DIR",
        callback=_directories,
        help="A member's separate WAL directory.",
    ),
    click.option(
        "--leave-out",
        "leave_out",
        multiple=True,
        metavar="NAME",
        help="Make a smaller cluster, without this voter of the backup; may be repeated.",
    ),
    click.option(
        "--map",
        "moves",
        multiple=True,
        metavar="OLD=NEW",
        callback=_moves,
        help="The member at host OLD comes back at host NEW: all its URLs, and where ssh goes.",
    ),
    click.option(
        "--bump-revision",
        "bump",
        type=int,
        metavar="N",
        help="Lift revisions by N (default 1000000000 for Kubernetes, else not at all).",
    ),
    click.option(
        "--mark-compacted", is_flag=True, help="Hide the revisions below; goes with --bump-revision."
    ),
    click.option("--no-bump", is_flag=True, help="No bump for Kubernetes either."),
)

tool_option = click.option(
    "--etcdutl",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The etcdutl (or etcdctl before 3.6) to restore with (default: on PATH).",
)

live_quorum_option = click.option(
    "--i-know-quorum-is-alive",
    "live_quorum",
    is_flag=True,
    help="Go on although the cluster that is to be replaced still serves; what it has accepted is lost.",
)

run_options = _together(
    yes_option,
    allow_unsigned_option,
    live_quorum_option,
    click.option(
        "--no-backup", is_flag=True, help="Do not back the restored cluster up at once, once it is proven."
    ),
    identity_option,
)
