"""Carrying a restore out, on all hosts or on this one; and afterwards looking, going back, cleaning up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.confirm import confirm, yes_option
from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.restore_options import live_quorum_option
from etcdguard.cli.restore_tables import cluster_table, host_table, plans_table, status_table
from etcdguard.cli.restore_watch import watcher
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError, PartialFailure, UsageError

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.restore.by_host import ByHost, Goal
    from etcdguard.restore.crew import Orders
    from etcdguard.restore.orchestrate import Orchestrator
    from etcdguard.restore.plan import RestorePlan
    from etcdguard.restore.result import RestoreResult

__all__ = ["cleanup_command", "restore_all", "restore_here", "rollback_command", "status_command"]

_plan_argument = click.argument("plan", metavar="PLAN")


def restore_all(session: Session, app: App, plan: RestorePlan, flags: Mapping[str, Any]) -> None:
    """Carry a plan out on all its hosts and report."""
    from etcdguard.restore.report import after_cluster

    connection = _connection(app, plan, flags)
    orders, fresh = _orders(app, flags), not flags["no_backup"]
    result = _orchestrator(session, app, plan, connection, orders, fresh_backup=fresh).run(connection)
    steps = after_cluster(plan, result)
    document = {"restore": result.model_dump(mode="json"), "plan_file": None, "next_steps": list(steps)}
    session.report(document, lambda _: cluster_table(result, steps))
    _complain(result)


def restore_here(
    session: Session,
    app: App,
    plan: RestorePlan,
    names: Sequence[str],
    flags: Mapping[str, Any],
    plan_file: Path | None,
) -> None:
    """Carry out this machine's part of a plan, as far as was asked for, and report.

    ``plan_file`` is the plan as the operator knows it, None where nobody else needs it.
    """
    from etcdguard.restore.report import after_host

    goal: Goal = "held" if not flags["start"] else "started" if flags["no_wait"] else "open"
    orders, fresh = _orders(app, flags), not flags["no_backup"]
    part = _part(session, app, plan, names, orders, plan_file, fresh_backup=fresh)
    result = part.run(goal)
    steps = after_host(plan, result, part.plan_file)
    document = {"restore": result.model_dump(mode="json"), "plan_file": plan_file, "next_steps": list(steps)}
    session.report(document, lambda _: host_table(result, steps))
    _complain(result)


@click.command(
    "status",
    cls=Command,
    epilog="""
    Examples:
      etcdguard restore status
      etcdguard restore status 20261121T020000Z-9f31c2aa
    """,
)
@click.argument("plan", metavar="[PLAN]", required=False)
@output_option
@click.pass_obj
def status_command(session: Session, /, plan: str | None) -> None:
    """Show where restores stand, or where each host of one stands."""
    from etcdguard.app import App
    from etcdguard.restore.known import known_plans
    from etcdguard.restore.orchestrate import Orchestrator

    app = App(session.load())
    if plan is None:
        plans = known_plans(app.config.restore.state_dir, app.clock.now)
        session.report({"plans": list(plans)}, lambda _: plans_table(plans))
        return
    begun = _begun(session, app, plan)
    if isinstance(begun, Orchestrator):
        state, answers = begun.status()
        phase, neighbours = state.phase, {}
    else:
        phase, answers = begun.status()
        neighbours = begun.neighbours()
    hosts = {
        host: {"phase": None, "problem": one.message}
        if isinstance(one, EtcdGuardError)
        else {"phase": one.facts["phase"], "problem": None}
        for host, one in answers.items()
    }
    hosts |= {where: {"phase": None, "problem": seen} for where, seen in neighbours.items()}
    session.report({"plan": plan, "phase": phase, "hosts": hosts}, status_table)


@click.command(
    "rollback",
    cls=Command,
    epilog="""
    Examples:
      etcdguard restore rollback 20261121T020000Z-9f31c2aa
    """,
)
@_plan_argument
@yes_option
@live_quorum_option
@click.pass_obj
def rollback_command(session: Session, /, plan: str, *, yes: bool, live_quorum: bool) -> None:
    """Put every directory of every host back as it was before a restore.

    Possible until the restored cluster is proven, and only on all hosts together. What ran before is started.
    Where the plan went from host to host with --member, this puts one host back: run it on every one.
    """
    from etcdguard.app import App
    from etcdguard.restore.orchestrate import Orchestrator
    from etcdguard.restore.report import after_host_rollback

    app = App(session.load())
    begun = _begun(session, app, plan)
    if isinstance(begun, Orchestrator):
        confirm(f"Put the directories of {plan} back on all hosts?", yes=yes)
        begun.roll_back()
        click.echo(f"{plan} is rolled back: every host is as it was before", err=True)
        return
    steps = after_host_rollback(begun.plan, begun.names)
    for step in steps:
        click.echo(step, err=True)
    confirm(f"Put the directories of {plan} back on this host?", yes=yes)
    begun.roll_back(live_quorum=live_quorum)
    click.echo(f"{plan} is rolled back here: this host is as it was before", err=True)
    for step in steps:
        click.echo(step, err=True)


@click.command(
    "cleanup",
    cls=Command,
    epilog="""
    Examples:
      etcdguard restore cleanup 20261121T020000Z-9f31c2aa
    """,
)
@_plan_argument
@yes_option
@connection_options
@output_option
@click.pass_obj
def cleanup_command(session: Session, /, plan: str, *, yes: bool) -> None:
    """Delete the old directories that a restore has kept.

    Only of a restored cluster that has been proven; where it was not, it is now. Where the plan went from
    host to host with --member, this is about one host.
    """
    from etcdguard.app import App

    app = App(session.load())
    begun = _begun(session, app, plan)
    confirm(f"Delete the old directories kept by {plan}?", yes=yes)
    removed = begun.clean_up()
    session.report(
        {"plan": plan, "removed": removed},
        lambda _: "\n".join(f"{host}: {path}" for host, paths in removed.items() for path in paths),
    )


# -- steps -----------------------------------------------------------------------------------------------


def _begun(session: Session, app: App, plan_id: str) -> Orchestrator | ByHost:
    """A plan that was begun on this machine, with its hosts as they were reached then."""
    from etcdguard.restore import by_host, orchestrate
    from etcdguard.restore.crew import Orders
    from etcdguard.restore.journal import Journal, plan_folder
    from etcdguard.restore.plan import read_plan

    folder = plan_folder(app.config.restore.state_dir, plan_id)

    def begun(journal: str) -> Mapping[str, Any] | None:
        events = Journal(folder / journal, app.clock.now).events()
        return next((one for one in reversed(events) if one["event"] == "plan"), None)

    orchestrated, here = begun(orchestrate.JOURNAL), begun(by_host.JOURNAL)
    if orchestrated is None and here is None:
        raise UsageError(
            f"no restore {plan_id} was begun from this machine",
            hint="run this where `etcdguard restore` ran; `etcdguard restore status` lists the plans",
        )
    plan = read_plan((folder / orchestrate.PLAN_FILE).read_bytes())
    if orchestrated is not None:
        return _orchestrator(session, app, plan, orchestrated["connection"], Orders())
    return _part(session, app, plan, here["members"] if here else (), Orders())


def _orders(app: App, flags: Mapping[str, Any]) -> Orders:
    from etcdguard.restore.crew import Orders
    from etcdguard.restore.environment import Overrides

    tool = flags["etcdutl"]
    return Orders(
        overrides=Overrides(unsigned=flags["allow_unsigned"], live_quorum=flags["live_quorum"]),
        identities=app.identity_texts(flags["identity"]),
        repository=flags["repository"],
        tool=None if tool is None else str(tool),
    )


def _part(
    session: Session,
    app: App,
    plan: RestorePlan,
    names: Sequence[str],
    orders: Orders,
    plan_file: Path | None = None,
    *,
    fresh_backup: bool = False,
) -> ByHost:
    from etcdguard.app_restore import by_host

    path = session.env.get("PATH", "")
    return by_host(
        app,
        plan,
        names,
        path,
        watcher(session),
        orders,
        plan_file=plan_file,
        fresh_backup=fresh_backup,
    )


def _orchestrator(
    session: Session,
    app: App,
    plan: RestorePlan,
    connection: Mapping[str, Any],
    orders: Orders,
    *,
    fresh_backup: bool = False,
) -> Orchestrator:
    from etcdguard.app_node import node
    from etcdguard.app_restore import orchestrator
    from etcdguard.restore.hosts import Host, LocalHost, sites_of
    from etcdguard.restore.ssh import SshHost, SshOptions

    config = connection["ssh_config"]
    options = SshOptions(
        config=None if config is None else Path(config),
        command=connection["remote_command"],
        remote_config=connection["remote_config"],
    )

    def host(name: str, members: Sequence[str]) -> Host:
        del members
        destination = connection["destinations"].get(name)
        if destination is not None:
            return SshHost(name, destination, options)
        return LocalHost(name, node(app, session.env.get("PATH", "")))

    sites = sites_of(plan, app.node, host)
    return orchestrator(app, plan, sites, watcher(session), orders, fresh_backup=fresh_backup)


def _connection(app: App, plan: RestorePlan, flags: Mapping[str, Any]) -> dict[str, Any]:
    """How the hosts are reached; what later runs need to reach them in the same way."""
    config = flags["ssh_config"]
    return {
        "ssh_config": None if config is None else str(config.absolute()),
        "remote_command": flags["remote_command"],
        "remote_config": flags["remote_config"],
        "destinations": {
            member.host: member.ssh or member.host
            for member in plan.members
            if member.host is not None and not app.is_here(member.host)
        },
    }


def _complain(result: RestoreResult) -> None:
    problems = [
        f"{what}: {problem}"
        for what, problem in (
            ("the repository has no record of it", result.record_problem),
            ("there is no fresh backup everywhere", result.fresh_backup_problem),
        )
        if problem is not None
    ]
    if problems:
        raise PartialFailure(
            f"the restore is done, but {'; '.join(problems)}",
            hint="go on with the next steps; note the restore where you keep such things",
        )
