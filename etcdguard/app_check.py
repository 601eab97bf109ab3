"""What ``app`` builds for the checks: the cluster's, and whether a restore would work from here."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from etcdguard import __version__
from etcdguard.app import App
from etcdguard.app_defrag import policy_of
from etcdguard.app_restore import configured_members, node
from etcdguard.catalog import Backup, Catalog, Listing
from etcdguard.errors import EtcdGuardError, Locked
from etcdguard.etcd.tools import Tool, restore_tool
from etcdguard.fetch import open_plain
from etcdguard.log import get_logger
from etcdguard.maintenance.checks.facts import SizePoint
from etcdguard.maintenance.checks.gather import Gatherer, Sources
from etcdguard.maintenance.checks.judge import judge_cluster
from etcdguard.maintenance.checks.trust import certificates
from etcdguard.maintenance.lock_check import WantedLock, check_object_lock
from etcdguard.maintenance.repository_check import check_repository
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.model import Manifest
from etcdguard.readiness import Key, Prospect, judge_readiness, newest
from etcdguard.restore.crew import Crew, NoWatcher, Orders
from etcdguard.restore.crew import Outcome as Answer
from etcdguard.restore.environment import Overrides
from etcdguard.restore.hosts import Host, LocalHost, Site
from etcdguard.restore.plan import PlannedMember, RestorePlan
from etcdguard.restore.planner import Choices, make_plan
from etcdguard.restore.ssh import SshHost, SshOptions

__all__ = ["Means", "check_cluster", "check_readiness", "check_repositories", "gatherer"]

_Answer = TypeVar("_Answer")

_log = get_logger()

_RECENT_BACKUPS = 50


def check_cluster(app: App, *, hash_kv: bool, read_values: bool) -> list[CheckResult]:
    """One line a check; a cluster that nobody answers for is a line too."""
    settings = app.config.checks
    with gatherer(app) as asks:
        try:
            facts = asks.facts(
                window=settings.window.total_seconds(), hash_kv=hash_kv, read_values=read_values
            )
        except EtcdGuardError as e:
            # Perhaps because of a certificate, so these are looked at all the same.
            nobody = CheckResult("cluster.quorum", Outcome.FAIL, e.message, hint=e.hint, error=type(e))
            return [nobody, certificates(asks.certificates(), app.clock.now(), settings.limits)]
    return judge_cluster(facts, settings.limits, policy_of(app))


def check_repositories(app: App, name: str | None) -> list[CheckResult]:
    """The canary in each configured repository, or in the one called ``name``."""
    results = []
    for repository in app.repositories(name):
        store = app.store(repository)
        catalog = app.catalog_of(store)
        results += check_repository(store, catalog.cluster, now=app.clock.now())
        lock = None if repository.s3 is None else repository.s3.object_lock
        if lock is not None:
            wanted = WantedLock(lock.mode, lock.days)
            find = partial(_newest_objects, catalog)
            results += check_object_lock(store, catalog.cluster, wanted, find, now=app.clock.now())
    return results


def _newest_objects(catalog: Catalog) -> tuple[Manifest, tuple[str, ...]] | None:
    """The newest backup that can be read, and the keys of all that belongs to it."""
    found = catalog.recent(1)
    if not found:
        return None
    manifest, layout = found[-1].manifest, catalog.layout
    objects = [layout.absolute(entry.key) for entry in manifest.objects]
    signature = [] if found[-1].signature == "missing" else [layout.signature(manifest.id)]
    return manifest, (*objects, *signature, layout.manifest(manifest.id))


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
    members: dict[str, list[PlannedMember]] = {}
    for member in plan.members:
        if member.host is not None:
            members.setdefault(member.host, []).append(member)

    def host(name: str, member: PlannedMember) -> Host:
        if app.is_here(name):
            return LocalHost(name, node(app, means.search_path))
        return SshHost(name, member.ssh or name, means.ssh)

    sites = [Site(host(name, those[0]), tuple(one.name for one in those)) for name, those in members.items()]
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


@contextmanager
def gatherer(app: App) -> Iterator[Gatherer]:
    """What asks the configured cluster."""
    with app.etcd() as client:
        yield Gatherer(
            Sources(
                client=client,
                scraper=app.scraper(),
                options=app.connection(),
                now=app.clock.now,
                sleep=time.sleep,
                data_dirs=_data_dirs_here(app),
                quota=app.config.defrag.quota,
                exclusive=lambda: _alone(app),
                backups=lambda: _recorded_sizes(app),
            )
        )


@contextmanager
def _alone(app: App) -> Iterator[None]:
    """Under the cluster's lock for what burdens members. Where nobody can have it, without. Raises Locked."""
    with app.lock("maintenance") as lock:
        try:
            lock.acquire()
        except Locked:
            raise
        except EtcdGuardError as e:  # no quorum, no space, no right to write
            _log.info("check.without_lock", error=e.message)
        yield


def _data_dirs_here(app: App) -> dict[str, Path]:
    """A member without a host may be anywhere: it is here if its directory is."""
    return {
        one.name: one.data_dir
        for one in app.config.members
        if (one.data_dir.is_dir() if one.host is None else app.is_here(one.host))
    }


def _recorded_sizes(app: App) -> Sequence[SizePoint]:
    """What the newest backups of the cluster as it is recorded, from oldest to newest."""
    backups = app.first_catalog(None, lambda catalog: catalog.recent(_RECENT_BACKUPS))
    facts = [one.manifest for one in backups]
    return [
        SizePoint(one.created_at, one.snapshot.db_bytes, one.snapshot.total_keys)
        for one in sorted(facts, key=lambda one: one.created_at)
        if one.cluster.cluster_id == facts[-1].cluster.cluster_id
    ]
