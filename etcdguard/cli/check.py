"""``etcdguard check``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.lazy import Command, DefaultGroup
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import Document, table
from etcdguard.cli.restore_options import ssh_options, tool_option
from etcdguard.cli.selection import identity_option, repository_option
from etcdguard.cli.session import Session

if TYPE_CHECKING:
    from etcdguard.maintenance.results import CheckResult

__all__ = ["command"]

_COLORS = {"OK": "green", "SKIP": "cyan", "WARN": "yellow", "FAIL": "red"}


@click.command(
    "check",
    cls=Command,
    epilog="""
    Examples:
      etcdguard check
      etcdguard check cluster
      etcdguard check restore-readiness --identity ./age-identity.txt
    """,
)
@connection_options
@output_option
@click.pass_obj
def _everything(session: Session, /) -> None:
    """Check the cluster, and what backups and restores depend on.

    One line for each check: OK, WARN, FAIL, or SKIP for what could not be found out. WARN and SKIP exit 0.
    Without a command, all of them.
    """
    from etcdguard.app import App
    from etcdguard.app_check import check_cluster, check_repositories
    from etcdguard.app_readiness import Means, check_readiness

    app = App(session.load())
    results = check_cluster(app, hash_kv=True, read_values=False)
    results += check_repositories(app, None)
    results += check_readiness(app, Means(session.env.get("PATH", "")))
    _report(session, results)


@click.group("check", cls=DefaultGroup, default=_everything, help=_everything.help, epilog=_everything.epilog)
def command() -> None:
    """Stand for ``_everything``, whose help this shows."""


@command.command(
    "cluster",
    epilog="""
    Examples:
      etcdguard check cluster
      etcdguard check cluster --no-hash -o json
    """,
)
@click.option(
    "--no-hash",
    is_flag=True,
    help="Do not compare the members' data, which scans each member's database once.",
)
@click.option(
    "--read-values",
    is_flag=True,
    help="Read all keys and values of one follower, also of a large database, to judge their sizes.",
)
@connection_options
@output_option
@click.pass_obj
def cluster(session: Session, /, no_hash: bool, read_values: bool) -> None:
    """Check health, consistency, size and trust of the cluster; changes nothing.

    Uses what a daemon on this host remembers, else looks twice, checks.window apart. Exit code 13 when
    members hold different data, 5 for any other FAIL, 2 when nobody answers.
    """
    from etcdguard.app import App
    from etcdguard.app_check import check_cluster

    app = App(session.load())
    _report(session, check_cluster(app, hash_kv=not no_hash, read_values=read_values))


@command.command(
    "repository",
    epilog="""
    Examples:
      etcdguard check repository
      etcdguard check repository --repository offsite -o json
    """,
)
@repository_option
@output_option
@click.pass_obj
def repository(session: Session, repository: str | None) -> None:
    """Prove with a canary object that each repository can do all that backups need.

    Writes, refuses to overwrite, reads, lists and deletes one object under CLUSTER/checks/. Exit code 10 when
    a repository fails.
    """
    from etcdguard.app import App
    from etcdguard.app_check import check_repositories

    _report(session, check_repositories(App(session.load()), repository))


@command.command(
    "restore-readiness",
    epilog="""
    Examples:
      etcdguard check restore-readiness
      etcdguard check restore-readiness --identity ./age-identity.txt --remote-command 'sudo etcdguard'
    """,
)
@identity_option
@tool_option
@repository_option
@ssh_options
@output_option
@click.pass_obj
def restore_readiness(session: Session, /, **flags: Any) -> None:
    """Check whether a restore of the newest backup would work right now from this machine.

    Repositories, age and signature of the backup, key, tool, and on every host with members the restore's own
    preflight, over ssh. Nothing is changed. The exit code is that of the first FAIL.
    """
    from etcdguard.app import App
    from etcdguard.app_readiness import Means, check_readiness
    from etcdguard.restore.ssh import SshOptions

    means = Means(
        session.env.get("PATH", ""),
        SshOptions(flags["ssh_config"], flags["remote_command"], flags["remote_config"]),
        flags["identity"],
        flags["etcdutl"],
        flags["repository"],
    )
    _report(session, check_readiness(App(session.load()), means))


def _report(session: Session, results: Sequence[CheckResult]) -> None:
    """Print the lines, and raise what they amount to."""
    from etcdguard.maintenance.results import failure, overall

    document = {
        "outcome": overall(results).value,
        "checks": [
            {
                "name": result.name,
                "outcome": result.outcome.value,
                "value": result.value,
                "threshold": result.threshold,
                "hint": result.hint,
            }
            for result in results
        ],
    }
    session.report(document, _table)
    error = failure(results)
    if error is not None:
        raise error


def _table(document: Document) -> str:
    rows = [
        (
            click.style(check["outcome"], fg=_COLORS[check["outcome"]]),
            check["name"],
            check["value"]
            + (f" [{check['threshold']}]" if check["threshold"] else "")
            + (f" (hint: {check['hint']})" if check["hint"] else ""),
        )
        for check in document["checks"]
    ]
    return table(None, rows)
