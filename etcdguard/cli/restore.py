"""``etcdguard restore``: plan and run at once on this machine, or a plan file for several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.confirm import confirm_cluster, require_confirmation
from etcdguard.cli.lazy import Command, DefaultGroup
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.restore_hosts import (
    cleanup_command,
    restore_all,
    restore_here,
    rollback_command,
    status_command,
)
from etcdguard.cli.restore_options import (
    here_options,
    plan_options,
    run_options,
    ssh_options,
    tool_option,
)
from etcdguard.cli.restore_tables import plan_table
from etcdguard.cli.selection import backup_argument, repository_option, target_option
from etcdguard.cli.session import Session
from etcdguard.errors import Refused, RepositoryError, UsageError
from etcdguard.log import get_logger

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.catalog import Backup
    from etcdguard.etcd.tools import Tool
    from etcdguard.restore.outlook import Outlook
    from etcdguard.restore.plan import RestorePlan

__all__ = ["command"]

_log = get_logger()


@click.command(
    "restore",
    cls=Command,
    epilog="""
    Examples:
      etcdguard restore --dry-run
      etcdguard restore latest --member cp1 --identity ./age-identity.txt
      etcdguard restore plan -o plan.json           # then on each host:
      etcdguard restore run --plan plan.json --member cp2
    """,
)
@backup_argument
@here_options
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
@plan_options
@tool_option
@run_options
@ssh_options
@repository_option
@connection_options
@output_option
@click.pass_obj
def _restore(session: Session, /, backup: str, repository: str | None, dry_run: bool, **flags: Any) -> None:
    """Restore a backup onto all members, or onto those on this machine.

    With --all, hosts other than this one are reached over ssh; configured services are stopped and started,
    and the new cluster is proven. Without services, etcd must be stopped and is not started. With --member,
    only this machine is touched, and the plan is also written to a file: every host must use that same plan,
    and services stay stopped until --start is given.

    Old data directories are renamed, never deleted; if anything fails, everything is put back.
    """
    from etcdguard.app import App
    from etcdguard.restore.plan import plan_document
    from etcdguard.restore.report import remaining

    if not dry_run:
        _check_here(flags)
    app = App(session.load())
    found = app.first_catalog(repository, lambda catalog: catalog.resolve(backup))
    plan = _plan(app, found, _tool(session, flags), flags)
    if dry_run:
        expected = _outlook(app, plan, repository)
        document = {**plan_document(plan), "outlook": expected.model_dump(mode="json")}
        session.report(document, lambda _: plan_table(plan, expected))
        return
    here = _here(app, plan, flags)
    flags["repository"] = repository
    _confirm(app, plan, here, flags)
    plan_file = None
    if remaining(plan, here):
        # Before anything changes: without this file the other members could not follow.
        plan_file = Path(f"etcdguard-restore-{plan.id}.json")
        _save(plan, plan_file)
    _carry_out(session, app, plan, here, flags, plan_file)


@click.group("restore", cls=DefaultGroup, default=_restore, help=_restore.help, epilog=_restore.epilog)
def command() -> None:
    """Stand for ``_restore``, whose help this shows."""


@command.command(
    "plan",
    epilog="""
    Examples:
      etcdguard restore plan -o plan.json
      etcdguard restore plan latest -o plan.json --data-dir cp1=/data/etcd --data-dir cp2=/data/etcd
    """,
)
@backup_argument
@target_option
@plan_options
@tool_option
@repository_option
@click.pass_obj
def plan_command(
    session: Session, /, backup: str, repository: str | None, target: Path, **flags: Any
) -> None:
    """Write the plan of a restore for all its hosts.

    Copy FILE to every host unchanged: only members restored by one plan make one cluster.
    """
    from etcdguard.app import App

    app = App(session.load())
    found = app.first_catalog(repository, lambda catalog: catalog.resolve(backup))
    plan = _plan(app, found, _tool(session, flags), {**flags, "names": (), "every": False})
    _save(plan, target)
    click.echo(plan_table(plan, _outlook(app, plan, repository)), err=True)
    click.echo(f"\n{target}: copy it to each host and run `etcdguard restore run` there", err=True)


@command.command(
    "run",
    epilog="""
    Examples:
      etcdguard restore run --plan plan.json --member cp2             # on every host; then on every host:
      etcdguard restore run --plan plan.json --member cp2 --start
      etcdguard restore run --plan plan.json --member cp2 --yes --identity /dev/stdin < age-identity.txt
    """,
)
@click.option(
    "--plan",
    "plan_file",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What `etcdguard restore plan` wrote.",
)
@here_options
@tool_option
@run_options
@ssh_options
@repository_option
@connection_options
@output_option
@click.pass_obj
def run_command(session: Session, /, plan_file: Path, repository: str | None, **flags: Any) -> None:
    """Carry out a plan for members on this machine, or with --all on all hosts.

    With --member, on each host: first without --start, which puts the new directories in place and holds the
    services; when that is done on all hosts, with --start on each. Run again after any failure, it goes on. A
    plan file that was changed in any way is refused.
    """
    from etcdguard.app import App
    from etcdguard.restore.plan import read_plan

    _check_here(flags)
    try:
        plan = read_plan(plan_file.read_bytes())
    except OSError as e:
        raise UsageError(f"{plan_file} cannot be read: {e.strerror}", hint="check the path to --plan") from e
    app = App(session.load())
    here = _here(app, plan, flags)
    flags["repository"] = repository
    _confirm(app, plan, here, flags)
    _carry_out(session, app, plan, here, flags, plan_file)


command.add_command(status_command)
command.add_command(rollback_command)
command.add_command(cleanup_command)


# -- steps -----------------------------------------------------------------------------------------------


def _check_here(flags: dict[str, Any]) -> None:
    if bool(flags["names"]) == flags["every"]:
        raise UsageError(
            "say which members live on this machine",
            hint="--member NAME for each, or --all if all do; --dry-run shows the plan first",
        )
    if flags["start"] and flags["every"]:
        raise UsageError(
            "--start goes with --member", hint="--all starts the members itself, once all are ready"
        )
    if flags["no_wait"] and not flags["start"]:
        raise UsageError("--no-wait goes with --start", hint="without --start nothing is waited for")
    require_confirmation(yes=flags["yes"])


def _here(app: App, plan: RestorePlan, flags: dict[str, Any]) -> list[str]:
    """The members to restore on this machine; raises UsageError for one that is unknown or left behind."""
    if flags["every"]:
        return [member.name for member in plan.members]
    named = [plan.member(name) for name in dict.fromkeys(flags["names"])]
    hosts = {member.host for member in named if member.host is not None}
    left = [
        member.name
        for member in plan.members
        if member not in named and (member.host in hosts or (member.host and app.is_here(member.host)))
    ]
    if left:
        raise UsageError(
            f"{', '.join(left)} lives on this machine too",
            hint="the members of one machine go together: add "
            + " ".join(f"--member {name}" for name in left),
        )
    if flags["start"] and any(member.service is None for member in named):
        raise UsageError(
            "--start needs members[].service", hint="start etcd yourself, on all hosts, when all are restored"
        )
    return [member.name for member in named]


def _tool(session: Session, flags: dict[str, Any]) -> Tool:
    from etcdguard.etcd.tools import restore_tool

    return restore_tool(flags["etcdutl"], session.env.get("PATH", ""))


def _plan(app: App, backup: Backup, tool: Tool, flags: dict[str, Any]) -> RestorePlan:
    import secrets

    from etcdguard.app_restore import configured_members
    from etcdguard.restore.planner import Choices, make_plan

    choices = Choices(
        here=frozenset(flags["names"]),
        all_here=flags["every"],
        data_dirs=flags["data_dirs"],
        wal_dirs=flags["wal_dirs"],
        bump=flags["bump"],
        mark_compacted=flags["mark_compacted"],
        no_bump=flags["no_bump"],
        leave_out=frozenset(flags["leave_out"]),
        moves=flags["moves"],
    )
    return make_plan(
        backup.manifest,
        configured_members(app),
        choices,
        tool,
        node=app.node,
        now=app.clock.now(),
        token_hex=secrets.token_hex,
    )


def _confirm(app: App, plan: RestorePlan, here: Sequence[str], flags: dict[str, Any]) -> None:
    if flags["yes"]:
        return
    click.echo(plan_table(plan, _outlook(app, plan, flags["repository"])), err=True)
    if any(member.host and not app.is_here(member.host) for member in plan.members) and flags["every"]:
        places = ", ".join(f"{member.name} on {member.host or app.node}" for member in plan.members)
        click.echo(f"\nThis replaces {places}.", err=True)
    else:
        click.echo(f"\nThis replaces {', '.join(here)} on this machine.", err=True)
    confirm_cluster(plan.cluster_name)


def _outlook(app: App, plan: RestorePlan, repository: str | None) -> Outlook:
    from etcdguard.restore.outlook import outlook

    try:
        past = app.first_catalog(repository, lambda catalog: catalog.trail.events("restore"))
    except RepositoryError as error:  # the restore may still come from one that answers later
        _log.warning("restore.history_unreadable", error=error.message)
        past = []
    return outlook(plan, past)


def _save(plan: RestorePlan, target: Path) -> None:
    from etcdguard.restore.files import write_private
    from etcdguard.restore.plan import write_plan

    if target.exists():
        raise Refused(f"{target} exists", hint="choose another name, or move it away")
    write_private(target, [write_plan(plan)])


def _carry_out(
    session: Session,
    app: App,
    plan: RestorePlan,
    here: Sequence[str],
    flags: dict[str, Any],
    plan_file: Path | None,
) -> None:
    if flags["every"]:
        restore_all(session, app, plan, flags)
    else:
        restore_here(session, app, plan, here, flags, plan_file)
