"""What ``app`` builds for a restore: the orchestrator over all hosts, and one host's part by hand."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from etcdguard import __version__
from etcdguard.app import App
from etcdguard.app_backup import backup_job
from etcdguard.app_node import node
from etcdguard.errors import EtcdGuardError, PartialFailure
from etcdguard.progress import NoProgress
from etcdguard.restore.by_host import ByHost, Elsewhere
from etcdguard.restore.crew import Crew, Orders, Watcher
from etcdguard.restore.hosts import LocalHost, Site
from etcdguard.restore.orchestrate import After, Orchestrator
from etcdguard.restore.plan import ControlPlaneSpec, PlannedMember, RestorePlan, ServiceSpec
from etcdguard.restore.planner import MemberSpec
from etcdguard.restore.prove import prove, raise_unproven
from etcdguard.restore.services import Patience

__all__ = ["by_host", "configured_members", "orchestrator"]

_PROOF_SECONDS = 180.0
"""How long a restored cluster may take to come up and be examined."""
_OTHERS_SECONDS = 600.0
"""The same where the operator goes from host to host to start the members."""


def configured_members(app: App) -> list[MemberSpec]:
    """The members as the configuration describes them; none where it leaves them to be discovered."""
    return [
        MemberSpec(
            name=member.name,
            peer_urls=member.peer_urls,
            client_urls=member.client_urls,
            host=member.host or (None if member.ssh is None else member.ssh.rpartition("@")[2]),
            ssh=member.ssh,
            data_dir=str(member.data_dir),
            wal_dir=None if member.wal_dir is None else str(member.wal_dir),
            service=None
            if member.service is None
            else ServiceSpec.model_validate_json(member.service.model_dump_json()),
            control_plane=None
            if member.control_plane is None
            else ControlPlaneSpec.model_validate_json(member.control_plane.model_dump_json()),
        )
        for member in app.config.members
    ]


def orchestrator(
    app: App,
    plan: RestorePlan,
    sites: Sequence[Site],
    watcher: Watcher,
    orders: Orders,
    *,
    fresh_backup: bool = False,
) -> Orchestrator:
    """A restore over these hosts. Repository and etcd are asked only when it comes to that.

    ``fresh_backup``: the restored cluster is backed up as configured, where it has been proven.
    """
    crew = Crew(plan, sites, __version__, app.clock, watcher, orders)
    after = _after(app, plan, orders.repository, _PROOF_SECONDS, fresh_backup=fresh_backup)
    return Orchestrator(plan, crew, app.config.restore.state_dir, app.clock, watcher, after)


def by_host(
    app: App,
    plan: RestorePlan,
    names: Sequence[str],
    search_path: str,
    watcher: Watcher,
    orders: Orders,
    *,
    plan_file: Path | None = None,
    fresh_backup: bool = False,
) -> ByHost:
    """This host's part of a plan: the members of these names. See ``ByHost`` and ``orchestrator``."""
    site = Site(LocalHost(app.node, node(app, search_path)), tuple(names))
    crew = Crew(plan, (site,), __version__, app.clock, watcher, orders)
    after = _after(app, plan, orders.repository, _OTHERS_SECONDS, fresh_backup=fresh_backup)
    state_dir, elsewhere = app.config.restore.state_dir, _elsewhere(app, plan, names)
    return ByHost(plan, crew, state_dir, app.clock, watcher, after, elsewhere, plan_file)


def _after(
    app: App, plan: RestorePlan, repository: str | None, proof_seconds: float, *, fresh_backup: bool
) -> After:
    def record(facts: Mapping[str, Any]) -> None:
        app.first_catalog(repository, lambda catalog: app.record(catalog, "restore", facts))

    # Where the operator starts etcd, there is nothing yet to back up.
    wanted = fresh_backup and all(member.service is not None for member in plan.members)
    return After(
        prove=lambda: _prove(app, plan, proof_seconds),
        record=record,
        backup=(lambda: _back_up(app, plan)) if wanted else None,
    )


def _back_up(app: App, plan: RestorePlan) -> str:
    with app.etcd(plan.client_urls) as client:
        report = backup_job(app, client, NoProgress(), endpoint=None, emergency=False).run()
    if report.failed:
        reasons = "; ".join(f"{name}: {error.message}" for name, error in report.failed.items())
        raise PartialFailure(
            f"{report.backup.id} is not in every repository ({reasons})",
            hint="it stays in the spool; the next backup ships it once the repository can be used again",
        )
    return report.backup.id


def _elsewhere(app: App, plan: RestorePlan, here: Sequence[str]) -> Elsewhere:
    """A URL that a member here has too, such as one of ``localhost``, does not lead to another host."""
    ours = {url for name in here for url in plan.member(name).client_urls}
    our_ids = {plan.member(name).member_id for name in here}

    def cluster_of(member: PlannedMember) -> str | None:
        with app.etcd(plan.client_urls) as client:
            for url in (one for one in member.client_urls if one not in ours):
                with suppress(EtcdGuardError):  # no answer is an answer
                    status = client.status(url)
                    if status.member_id not in our_ids:
                        return status.cluster_id
        return None

    def serves(member: PlannedMember) -> bool:
        with app.etcd(plan.client_urls) as client:
            for url in (one for one in member.client_urls if one not in ours):
                with suppress(EtcdGuardError):
                    client.linearizable_read(url)
                    return True
        return False

    return Elsewhere(cluster_of, serves)


def _prove(app: App, plan: RestorePlan, seconds: float) -> dict[str, Any]:
    with app.etcd_admin(plan.client_urls or app.config.cluster.endpoints) as client:
        patience = Patience(seconds, time.monotonic, time.sleep)
        proofs = prove(plan, plan.hash_kv, client, patience, nonce=secrets.token_hex(8))
    raise_unproven(proofs)
    return {proof.name: proof.found for proof in proofs}
