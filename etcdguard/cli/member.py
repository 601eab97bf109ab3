"""``etcdguard member``."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from etcdguard.cli.confirm import confirm_cluster, require_confirmation, yes_option
from etcdguard.cli.lazy import Group
from etcdguard.cli.options import connection_options, output_option
from etcdguard.cli.output import human_duration, table
from etcdguard.cli.session import Session
from etcdguard.errors import UsageError

if TYPE_CHECKING:
    from etcdguard.app import App
    from etcdguard.etcd.admin import AdminClient
    from etcdguard.model import ClusterTopology
    from etcdguard.restore.replace.environment import ReplaceEnvironment
    from etcdguard.restore.replace.plan import ReplacePlan
    from etcdguard.restore.replace.run import ReplaceResult

__all__ = ["command"]

_ELECTION = 10.0
"""Seconds that the other members may take to agree on a leader."""


@click.group(
    cls=Group,
    epilog="""
    Examples:
      etcdguard member replace cp2 --dry-run
    """,
)
def command() -> None:
    """Replace a member of a cluster that is alive."""


@command.command(
    "replace",
    epilog="""
    Examples:
      etcdguard member replace cp2 --dry-run --endpoints https://10.0.0.11:2379,https://10.0.0.13:2379
      etcdguard member replace cp2
      etcdguard member replace cp2 --data-dir /data/etcd --yes
    """,
)
@click.argument("name")
@click.option("--dry-run", is_flag=True, help="Check everything, print the plan and change nothing.")
@yes_option
@click.option("--data-dir", metavar="DIR", help="Its data directory (default: the configuration's).")
@click.option("--wal-dir", metavar="DIR", help="Its separate WAL directory.")
@connection_options
@output_option
@click.pass_obj
def replace(session: Session, /, name: str, *, dry_run: bool, yes: bool, **flags: Any) -> None:
    """Replace a lost member, on its host, while the others have a quorum.

    Removes it, moves its files aside, adds it again without a vote, starts it, gives it its vote when it has
    caught up, and compares the data of all members. Run it again after any failure: it goes on where it
    stopped. Exit code 15 when there is no quorum: then the way is `etcdguard restore`.
    """
    from etcdguard.app import App
    from etcdguard.restore.preflight import raise_all
    from etcdguard.restore.replace.preflight import check_ready
    from etcdguard.restore.replace.run import begun, replace_member
    from etcdguard.restore.replace.survey import first_survey
    from etcdguard.restore.services import Patience

    if not dry_run:
        require_confirmation(yes=yes)
    app = App(session.load())
    earlier = begun(name, app.config.restore.state_dir, app.clock)
    endpoints = _endpoints(app, earlier)
    with app.etcd_admin(endpoints) as client:
        seen = first_survey(client, endpoints, name, Patience(_ELECTION, time.monotonic, time.sleep))
        plan = _plan(app, name, seen.topology, flags) if earlier is None else _same(earlier, flags)
        environment = _environment(app, client, endpoints, plan, session.env.get("PATH", ""))
        problems = list(check_ready(plan, seen.topology, environment, resumed=earlier is not None))
        if dry_run:
            session.report({"plan": plan.model_dump(mode="json")}, lambda _: _plan_table(plan))
            raise_all(problems)
            return
        raise_all(problems)
        if not yes:
            click.echo(_plan_table(plan), err=True)
            click.echo(f"\nThis replaces {name} on this machine.", err=True)
            confirm_cluster(plan.cluster_name)
        with session.progress() as progress:
            result = replace_member(plan, dataclasses.replace(environment, progress=progress))
    session.report({"replaced": result.model_dump(mode="json")}, lambda _: _result_table(result))


def _endpoints(app: App, earlier: ReplacePlan | None) -> tuple[str, ...]:
    configured = [url for member in app.config.members for url in member.client_urls]
    known = () if earlier is None else earlier.endpoints
    return tuple(dict.fromkeys((*app.config.cluster.endpoints, *configured, *known)))


def _plan(app: App, name: str, topology: ClusterTopology, flags: dict[str, Any]) -> ReplacePlan:
    from etcdguard.app_restore import configured_members
    from etcdguard.restore.machine import LOCAL
    from etcdguard.restore.replace.plan import make_plan

    return make_plan(
        name,
        next((one for one in configured_members(app) if one.name == name), None),
        topology,
        cluster_name=app.config.cluster.name,
        data_dir=flags["data_dir"],
        wal_dir=flags["wal_dir"],
        node=app.node,
        is_mount=LOCAL.is_mount,
        is_here=lambda url: app.is_here(urlsplit(url).hostname or ""),
        now=app.clock.now(),
        token_hex=secrets.token_hex,
    )


def _same(earlier: ReplacePlan, flags: dict[str, Any]) -> ReplacePlan:
    """The plan of the run that was cut off; raises UsageError for flags that say otherwise."""
    for flag, planned in (("data_dir", earlier.member.data_dir), ("wal_dir", earlier.member.wal_dir)):
        if flags[flag] not in (None, planned):
            raise UsageError(
                f"an earlier run has begun with {planned or 'no separate directory'}, not {flags[flag]}",
                hint=f"run it again without --{flag.replace('_', '-')}, and it goes on",
            )
    return earlier


def _environment(
    app: App, client: AdminClient, endpoints: Sequence[str], plan: ReplacePlan, search_path: str
) -> ReplaceEnvironment:
    from etcdguard.restore.replace.environment import ReplaceEnvironment
    from etcdguard.restore.services import Surroundings, services_for

    around = Surroundings.here(search_path, monotonic=time.monotonic, sleep=time.sleep)
    services = services_for(plan.member, plan.id, around)
    return ReplaceEnvironment(
        cluster=client,
        endpoints=tuple(endpoints),
        service=None if services is None else services.etcd,
        state_dir=app.config.restore.state_dir,
        clock=app.clock,
        sleep=time.sleep,
        tell=lambda line: click.echo(line, err=True),
    )


def _plan_table(plan: ReplacePlan) -> str:
    from etcdguard.restore.replace.plan import step_texts

    member = plan.member
    facts = [
        ("plan", plan.id),
        ("cluster", f"{plan.cluster_name} ({plan.cluster_id})"),
        ("member", f"{member.name}, {plan.old_member_id or 'already removed'}"),
        ("peer URLs", ", ".join(member.peer_urls)),
        ("data dir", member.data_dir),
        ("WAL dir", member.wal_dir or "-"),
        ("service", "-" if member.service is None else member.service.name),
    ]
    steps = [f"{number}. {step}: {does}" for number, (step, does) in enumerate(step_texts(plan), 1)]
    return "\n\n".join([table(None, facts), "\n".join(steps), *plan.notes])


def _result_table(result: ReplaceResult) -> str:
    facts = [
        ("member", f"{result.name}, {result.old_member_id or '-'} becomes {result.member_id}"),
        ("data dir", result.data_dir),
        ("old files", ", ".join(result.kept) or "-"),
        ("verified", result.verified),
    ]
    steps = ", ".join(f"{name} {human_duration(seconds)}" for name, seconds in result.seconds.items())
    return f"{table(None, facts)}\n\n{steps}"
