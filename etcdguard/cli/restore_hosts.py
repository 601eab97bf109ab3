"""``etcdguard restore`` over several hosts: going through with a plan, going on, going back, cleaning up."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import human_duration
from etcdguard.cli.restore_tables import cluster_table, plans_table, status_table
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError, PartialFailure, UsageError
from etcdguard.log import get_logger

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.restore.crew import Orders
    from etcdguard.restore.orchestrate import Orchestrator
    from etcdguard.restore.plan import RestorePlan
    from etcdguard.restore.result import ClusterResult

__all__ = ["cleanup_command", "is_over_hosts", "restore_over_hosts", "rollback_command", "status_command"]

_log = get_logger()


def is_over_hosts(app: App, plan: RestorePlan) -> bool:
    """Whether this takes other hosts, or services to stop and start: else it is about directories here."""
    return any(
        member.service is not None or not (member.host is None or app.is_here(member.host))
        for member in plan.members
    )


def restore_over_hosts(session: Session, app: App, plan: RestorePlan, flags: Mapping[str, Any]) -> None:
    """Carry a plan out on all its hosts and report."""
    from etcdguard.restore.crew import Orders
    from etcdguard.restore.environment import Overrides
    from etcdguard.restore.report import after_cluster

    tool = flags["etcdutl"]
    orders = Orders(
        overrides=Overrides(unsigned=flags["allow_unsigned"], live_quorum=flags["live_quorum"]),
        identities=app.identity_texts(flags["identity"]),
        repository=flags["repository"],
        tool=None if tool is None else str(tool),
    )
    connection = _connection(app, plan, flags)
    result = _orchestrator(session, app, plan, connection, orders).run(connection)
    steps = after_cluster(plan, result)
    document = {"restore": result.model_dump(mode="json"), "plan_file": None, "next_steps": list(steps)}
    session.report(document, lambda _: cluster_table(result, steps))
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

    app = App(session.load())
    if plan is None:
        plans = known_plans(app.config.restore.state_dir, app.clock.now)
        session.report({"plans": list(plans)}, lambda _: plans_table(plans))
        return
    state, hosts = _known(session, app, plan).status()
    document = {
        "plan": plan,
        "phase": state.phase,
        "hosts": {
            host: {"phase": None, "problem": one.message}
            if isinstance(one, EtcdGuardError)
            else {"phase": one.facts["phase"], "problem": None}
            for host, one in hosts.items()
        },
    }
    session.report(document, status_table)


@click.command(
    "rollback",
    cls=Command,
    epilog="""
    Examples:
      etcdguard restore rollback 20261121T020000Z-9f31c2aa
    """,
)
@click.argument("plan", metavar="PLAN")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@click.pass_obj
def rollback_command(session: Session, /, plan: str, yes: bool) -> None:
    """Put every directory of every host back as it was before a restore.

    Possible until the restored cluster is proven, and only on all hosts together. What ran before is started.
    """
    from etcdguard.app import App

    _confirm(f"Put the directories of {plan} back on all hosts?", yes=yes)
    app = App(session.load())
    _known(session, app, plan).roll_back()
    click.echo(f"{plan} is rolled back: every host is as it was before", err=True)


@click.command(
    "cleanup",
    cls=Command,
    epilog="""
    Examples:
      etcdguard restore cleanup 20261121T020000Z-9f31c2aa
    """,
)
@click.argument("plan", metavar="PLAN")
@click.option("--yes", is_flag=True, help="Do not ask first.")
@connection_options
@output_option
@click.pass_obj
def cleanup_command(session: Session, /, plan: str, yes: bool) -> None:
    """Delete the old directories that a restore has kept.

    Only of a restored cluster that has been proven; where it was not, it is now.
    """
    from etcdguard.app import App

    _confirm(f"Delete the old directories kept by {plan} on all hosts?", yes=yes)
    app = App(session.load())
    removed = _known(session, app, plan).clean_up()
    session.report(
        {"plan": plan, "removed": removed},
        lambda _: "\n".join(f"{host}: {path}" for host, paths in removed.items() for path in paths),
    )


# -- steps -----------------------------------------------------------------------------------------------


def _known(session: Session, app: App, plan_id: str) -> Orchestrator:
    """The orchestrator of a plan that was begun on this machine, with its hosts as they were reached then."""
    from etcdguard.restore.crew import Orders
    from etcdguard.restore.journal import Journal, plan_folder
    from etcdguard.restore.orchestrate import JOURNAL, PLAN_FILE
    from etcdguard.restore.plan import read_plan

    folder = plan_folder(app.config.restore.state_dir, plan_id)
    events = [one for one in Journal(folder / JOURNAL, app.clock.now).events() if one["event"] == "plan"]
    if not events:
        raise UsageError(
            f"no restore {plan_id} was begun from this machine",
            hint="run this where `etcdguard restore --all` ran; `etcdguard restore status` lists the plans",
        )
    plan = read_plan((folder / PLAN_FILE).read_bytes())
    return _orchestrator(session, app, plan, events[-1]["connection"], Orders())


def _orchestrator(
    session: Session, app: App, plan: RestorePlan, connection: Mapping[str, Any], orders: Orders
) -> Orchestrator:
    from etcdguard.app_restore import node, orchestrator
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

    watcher = _Lines() if sys.stderr.isatty() and session.verbosity >= 0 else _Events()
    return orchestrator(app, plan, sites_of(plan, app.node, host), watcher, orders)


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


def _confirm(question: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to confirm", hint="pass --yes, or run it on a terminal")
    click.confirm(question, abort=True, err=True)


def _complain(result: ClusterResult) -> None:
    problems = [
        f"{what}: {problem}"
        for what, problem in (
            ("the repository has no record of it", result.record_problem),
            ("there is no fresh backup", result.fresh_backup_problem),
        )
        if problem is not None
    ]
    if problems:
        raise PartialFailure(
            f"the cluster is restored, but {'; '.join(problems)}",
            hint="go on with the next steps; note the restore where you keep such things",
        )


class _Lines:
    """For a person who watches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def phase(self, name: str) -> None:
        """See Watcher."""
        self._say(click.style(name, bold=True))

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""
        outcome = f"ok, {human_duration(seconds)}" if error is None else f"FAILED: {error.message}"
        self._say(f"  {host}: {step} {outcome}")

    def note(self, text: str) -> None:
        """See Watcher."""
        self._say(f"  note: {text}")

    def _say(self, line: str) -> None:
        with self._lock:
            click.echo(line, err=True)


class _Events:
    """For a log."""

    def phase(self, name: str) -> None:
        """See Watcher."""
        _log.info("restore.phase", phase=name)

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""
        if error is None:
            _log.info("restore.step", host=host, step=step, seconds=round(seconds, 3))
        else:
            _log.warning("restore.step_failed", host=host, step=step, error=error.message)

    def note(self, text: str) -> None:
        """See Watcher."""
        _log.warning("restore.note", note=text)
