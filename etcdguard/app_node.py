"""What ``app`` builds for one host of a restore. Every host of one starts it anew: it imports little."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from etcdguard import __version__
from etcdguard.app import App
from etcdguard.catalog import Backup, Catalog
from etcdguard.crypto.recipients import Identity, parse_identity
from etcdguard.etcd.tools import Tool, restore_tool
from etcdguard.progress import NoProgress
from etcdguard.restore.environment import Environment
from etcdguard.restore.node import Node
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.services import Surroundings, services_for
from etcdguard.restore.steps import StepRequest

__all__ = ["node"]


def node(app: App, search_path: str) -> Node:
    """This machine as one of the hosts of a restore; ``search_path`` is written like PATH."""
    around = Surroundings.here(search_path, monotonic=time.monotonic, sleep=time.sleep)

    @contextmanager
    def environment(request: StepRequest, plan: RestorePlan) -> Iterator[Environment]:
        catalog, backup = _found(app, request.repository, plan)
        endpoints = app.config.cluster.endpoints
        with app.etcd([*endpoints, *plan.client_urls]) as client:
            yield Environment.opened(
                catalog,
                backup,
                lambda: _identities(app, request),
                _tool(request.tool, plan, search_path),
                endpoints=endpoints,
                linearizable_read=client.linearizable_read,
                progress=NoProgress(),
            )

    return Node(
        version=__version__,
        state_dir=app.config.restore.state_dir,
        clock=app.clock,
        environment=environment,
        services=lambda member, plan_id: services_for(member, plan_id, around),
    )


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
