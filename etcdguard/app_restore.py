"""What ``app`` builds for a restore: this machine's part, and the orchestrator over all of them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etcdguard import __version__
from etcdguard.app import App
from etcdguard.catalog import Backup, Catalog
from etcdguard.crypto.recipients import Identity, parse_identity
from etcdguard.etcd.tools import Tool, restore_tool
from etcdguard.progress import NoProgress, Progress
from etcdguard.restore.crew import Crew, Orders, Watcher
from etcdguard.restore.environment import Environment
from etcdguard.restore.hosts import Site
from etcdguard.restore.node import Node
from etcdguard.restore.orchestrate import After, Orchestrator
from etcdguard.restore.plan import ControlPlaneSpec, PlannedMember, RestorePlan, ServiceSpec
from etcdguard.restore.planner import MemberSpec
from etcdguard.restore.prove import prove, raise_unproven
from etcdguard.restore.services import Patience, Surroundings, services_for
from etcdguard.restore.steps import StepRequest

__all__ = ["configured_members", "node", "orchestrator", "restore_environment"]

_PROOF_SECONDS = 180.0
"""How long a restored cluster may take to come up and be examined."""


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


@contextmanager
def restore_environment(
    app: App,
    catalog: Catalog,
    backup: Backup,
    tool: Tool,
    identities: Callable[[], Sequence[Identity]],
    progress: Progress,
    *,
    members: Sequence[PlannedMember],
) -> Iterator[Environment]:
    """What a restore of a plan with these members needs on this machine."""
    endpoints = app.config.cluster.endpoints
    urls = [url for member in members for url in member.client_urls]
    with app.etcd([*endpoints, *urls]) as client:
        yield Environment.opened(
            catalog,
            backup,
            identities,
            tool,
            clock=app.clock,
            endpoints=endpoints,
            linearizable_read=client.linearizable_read,
            record=lambda facts: app.record(catalog, "restore", facts),
            progress=progress,
        )


def node(app: App, search_path: str) -> Node:
    """This machine as one of the hosts of a restore; ``search_path`` is written like PATH."""
    around = Surroundings.here(search_path, monotonic=time.monotonic, sleep=time.sleep)

    @contextmanager
    def environment(request: StepRequest, plan: RestorePlan) -> Iterator[Environment]:
        catalog, backup = _found(app, request.repository, plan)
        with restore_environment(
            app,
            catalog,
            backup,
            _tool(request.tool, plan, search_path),
            lambda: _identities(app, request),
            NoProgress(),
            members=plan.members,
        ) as opened:
            yield opened

    return Node(
        version=__version__,
        state_dir=app.config.restore.state_dir,
        clock=app.clock,
        environment=environment,
        services=lambda member, plan_id: services_for(member, plan_id, around),
    )


def orchestrator(
    app: App,
    plan: RestorePlan,
    sites: Sequence[Site],
    watcher: Watcher,
    orders: Orders,
) -> Orchestrator:
    """A restore over these hosts. Repository and etcd are asked only when it comes to that."""

    def record(facts: Mapping[str, Any]) -> None:
        app.first_catalog(orders.repository, lambda catalog: app.record(catalog, "restore", facts))

    after = After(lambda: _prove(app, plan, orders.repository), record)
    crew = Crew(plan, sites, __version__, app.clock, watcher, orders)
    return Orchestrator(plan, crew, app.config.restore.state_dir, app.clock, watcher, after)


def _prove(app: App, plan: RestorePlan, repository: str | None) -> dict[str, Any]:
    _, backup = _found(app, repository, plan)
    urls = [url for member in plan.members for url in member.client_urls]
    client = app.etcd_admin(urls or app.config.cluster.endpoints)
    with client:
        patience = Patience(_PROOF_SECONDS, time.monotonic, time.sleep)
        proofs = prove(plan, backup.manifest.hash_kv, client, patience, nonce=secrets.token_hex(8))
    raise_unproven(proofs)
    return {proof.name: proof.found for proof in proofs}


def _found(app: App, repository: str | None, plan: RestorePlan) -> tuple[Catalog, Backup]:
    return app.first_catalog(repository, lambda catalog: (catalog, catalog.get(plan.backup_id)))


def _identities(app: App, request: StepRequest) -> list[Identity]:
    """Those that were sent, else this machine's own."""
    sent = [parse_identity(text.get_secret_value()) for text in request.identities]
    return [*sent] or app.identities()


def _tool(path: str | None, plan: RestorePlan, search_path: str) -> Tool:
    """The tool that was named, else the planned one where this machine has it in the same place."""
    named = path or (plan.tool.path if Path(plan.tool.path).exists() else None)
    return restore_tool(None if named is None else Path(named), search_path)
