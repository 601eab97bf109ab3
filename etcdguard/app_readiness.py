"""What ``app`` builds to find out whether a restore would work from here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from etcdguard import __version__
from etcdguard.app import App
from etcdguard.app_node import node
from etcdguard.app_restore import configured_members
from etcdguard.catalog import Backup, Catalog, Listing
from etcdguard.errors import EtcdGuardError
from etcdguard.etcd.tools import Tool, restore_tool
from etcdguard.fetch import open_plain
from etcdguard.maintenance.results import CheckResult
from etcdguard.readiness import Key, Prospect, judge_readiness, newest
from etcdguard.restore.crew import Crew, NoWatcher, Orders
from etcdguard.restore.crew import Outcome as Answer
from etcdguard.restore.environment import Overrides
from etcdguard.restore.hosts import Host, LocalHost, sites_of
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices, make_plan
from etcdguard.restore.ssh import SshHost, SshOptions

__all__ = ["Means", "check_readiness"]

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Means:
    """What a restore would be given: ``search_path`` is written like PATH, ``ssh`` reaches other hosts."""

    search_path: str
    ssh: SshOptions = field(default_factory=SshOptions)
    identity: Path | None = None
    tool: Path | None = None
    repository: str | None = None


def check_readiness(app: App, means: Means) -> list[CheckResult]:
    """Whether a restore of the newest backup would work from here; nothing is changed but for lock files."""
    catalogs = {catalog.store.name: catalog for catalog in app.catalogs(means.repository)}
    listings = {name: _tried(catalog.list) for name, catalog in catalogs.items()}
    tool = _tried(lambda: restore_tool(means.tool, means.search_path))
    backup = newest(listings)
    key: Key | None = None
    plan: RestorePlan | EtcdGuardError | None = None
    hosts: Mapping[str, Answer] = {}
    if backup is not None:
        holding = [name for name, one in listings.items() if isinstance(one, Listing) and one.backups]
        key = _key(app, means, catalogs[holding[0]], backup)
        if isinstance(tool, Tool):
            plan = _tried(partial(_plan, app, backup, tool))
        if isinstance(plan, RestorePlan):
            hosts = _preflight(app, means, plan, identities=not key.offline)
    found = Prospect(listings, key, tool, plan, hosts, app.clock.now())
    return judge_readiness(found, app.config.checks.limits)


def _key(app: App, means: Means, catalog: Catalog, backup: Backup) -> Key:
    """Open the newest backup as far as its first piece, which age has authenticated."""
    encryption = app.config.encryption
    if backup.manifest.encryption is None:
        return Key(needed=False)
    if means.identity is None and encryption.identity_file is None and encryption.passphrase_file is None:
        return Key(offline=True)
    try:
        identities = app.identities(means.identity)
        next(open_plain(catalog.store, catalog.layout, backup.manifest, identities, hashing=False), None)
    except EtcdGuardError as e:
        return Key(problem=e)
    return Key()


def _plan(app: App, backup: Backup, tool: Tool) -> RestorePlan:
    """A plan like that of ``restore``; a member without a host is here if its directory is."""
    here = frozenset(one.name for one in app.config.members if one.host is None and one.data_dir.is_dir())
    return make_plan(
        backup.manifest,
        configured_members(app),
        Choices(here=here),
        tool,
        node=app.node,
        now=app.clock.now(),
        token_hex=secrets.token_hex,
    )


def _preflight(app: App, means: Means, plan: RestorePlan, *, identities: bool) -> dict[str, Answer]:
    """What each known host of the plan answers to the restore's own preflight, while the cluster lives."""

    def host(name: str, members: Sequence[str]) -> Host:
        if app.is_here(name):
            return LocalHost(name, node(app, means.search_path))
        return SshHost(name, plan.member(members[0]).ssh or name, means.ssh)

    sites = sites_of(plan, None, host)
    orders = Orders(
        overrides=Overrides(live_quorum=True),
        identities=app.identity_texts(means.identity) if identities else (),
        repository=means.repository,
        tool=None if means.tool is None else str(means.tool),
    )
    crew = Crew(plan, sites, __version__, app.clock, NoWatcher(), orders)
    try:
        return crew.ask("preflight")
    finally:
        for site in sites:
            site.host.close()


def _tried(ask: Callable[[], _Answer]) -> _Answer | EtcdGuardError:
    try:
        return ask()
    except EtcdGuardError as e:
        return e
