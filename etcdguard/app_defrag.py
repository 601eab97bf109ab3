"""What ``app`` builds for a defragmentation."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from etcdguard.app import App
from etcdguard.app_backup import backup_job
from etcdguard.catalog import Backup, Catalog
from etcdguard.errors import Corruption, RepositoryError, WrongKey
from etcdguard.log import get_logger
from etcdguard.maintenance.defrag.environment import Environment, MaintenanceLock
from etcdguard.maintenance.defrag.facts import History, Policy
from etcdguard.maintenance.defrag.history import KIND, facts_of, read_history
from etcdguard.maintenance.defrag.observe import MemberObserver
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup
from etcdguard.maintenance.defrag.run import DefragJob
from etcdguard.model import Member
from etcdguard.progress import Progress

if TYPE_CHECKING:
    from etcdguard.etcd.admin import AdminClient

__all__ = ["defrag_job", "policy_of"]

_log = get_logger()

_CLOCKS_APART = timedelta(minutes=5)
"""A backup may be so far in the future: another node took it."""


def policy_of(app: App) -> Policy:
    """The configured policy."""
    settings = app.config.defrag
    return Policy(
        fragmentation=settings.fragmentation,
        min_size=settings.min_size,
        min_free=settings.min_free,
        quota_usage=settings.quota_usage,
        at_most_every=settings.at_most_every,
        small_clusters=settings.small_clusters,
        max_duration=settings.max_duration.total_seconds(),
        disk_reserve=settings.disk_reserve,
        settle=settings.settle.total_seconds(),
        leader_settle=min(Policy.leader_settle, settings.settle.total_seconds()),
        compact_age=settings.compact_age.total_seconds(),
    )


def defrag_job(
    app: App,
    client: AdminClient,
    lock: MaintenanceLock,
    policy: Policy,
    progress: Progress,
    *,
    shield: Callable[[str, float], AbstractContextManager[None]],
    tell: Callable[[str], None],
) -> DefragJob:
    """A run on the configured cluster; the caller closes ``lock``."""
    backups = _Backups(app, client, progress)
    environment = Environment(
        cluster=client,
        lock=lock,
        observe=MemberObserver(
            app.scraper(),
            quota=app.config.defrag.quota,
            disk_free=lambda member: _disk_free(app, member),
            separate_pages=bool(app.config.cluster.metrics_urls),
        ),
        history=lambda cluster_id: _history(app, cluster_id),
        fresh_backup=backups.fresh,
        take_backup=backups.take,
        record=lambda report: _record(app, report),
        shield=shield,
        clock=app.clock,
        sleep=time.sleep,
        tell=tell,
    )
    return DefragJob(environment, policy)


# -- the audit trail -----------------------------------------------------------------------------------------


def _history(app: App, cluster_id: str) -> History:
    """From every repository that can be read: a run is recorded in all of them, as far as they are up."""
    if app.signer is None:
        _log.warning("defrag.no_history", reason="without signing.key_file no run is recorded")
    events: list[dict[str, Any]] = []
    failures: list[RepositoryError] = []
    catalogs = app.catalogs()
    for catalog in catalogs:
        try:
            events += catalog.trail.events(KIND)
        except RepositoryError as error:
            failures.append(error)
            _log.warning("repository.failed", repository=catalog.store.name, error=error.message)
    if failures and len(failures) == len(catalogs):
        raise failures[0]
    return read_history(events, cluster_id)


def _record(app: App, report: DefragReport) -> None:
    """In every repository; the cluster is as it is, whether that can be written down or not."""
    if app.signer is None:
        return  # an unsigned event would be believed by nobody
    facts = facts_of(report)
    for catalog in app.catalogs():
        try:
            app.record(catalog, KIND, facts)
        except RepositoryError as error:
            _log.warning("defrag.not_recorded", repository=catalog.store.name, error=error.message)


# -- the backup behind it ------------------------------------------------------------------------------------


class _Backups:
    """Finds or takes a verified backup; a machine without an identity can verify only manifests."""

    def __init__(self, app: App, client: AdminClient, progress: Progress) -> None:
        self._app = app
        self._client = client
        self._progress = progress

    @property
    def _level(self) -> Literal["manifest", "data"]:
        try:
            self._app.identities()
        except WrongKey:
            return "manifest"
        return "data"

    def fresh(self, cluster_id: str) -> FreshBackup | None:
        """The newest one of that cluster that is young enough and verified as deep as this machine can."""
        enough = ("data", "drill") if self._level == "data" else ("manifest", "data", "drill")
        now, oldest = self._app.clock.now(), self._app.config.defrag.backup_age
        found: list[Backup] = []
        for catalog in self._app.catalogs():
            try:
                found += catalog.list().backups
            except RepositoryError as error:
                _log.warning("repository.failed", repository=catalog.store.name, error=error.message)
        young = [
            FreshBackup(one.id, one.manifest.created_at, one.verified.level)
            for one in found
            if one.manifest.cluster.cluster_id == cluster_id
            and one.signature == "valid"
            and one.verified is not None
            and one.verified.level in enough
            and -_CLOCKS_APART <= now - one.manifest.created_at <= oldest
        ]
        return max(young, key=lambda one: one.created_at, default=None)

    def take(self) -> FreshBackup:
        """Take one and verify it where it was stored; raises what a backup raises, and Corruption."""
        app = self._app
        job = backup_job(app, self._client, self._progress, endpoint=None, emergency=False)
        report = job.run()
        level = self._level

        def verify(catalog: Catalog) -> FreshBackup:
            results = app.verifier(catalog, self._progress).one(report.backup.id, level)
            app.record_verification(catalog, results)
            if results[0].problems:
                raise Corruption(
                    f"the backup {report.backup.id} is not sound: {'; '.join(results[0].problems)}",
                    hint="nothing was defragmented; run 'etcdguard check repository'",
                )
            return FreshBackup(report.backup.id, report.backup.created_at, level)

        stored = next(name for name, error in report.delivery.outcomes.items() if error is None)
        return app.first_catalog(stored, verify)


# -- disk ----------------------------------------------------------------------------------------------------


def _disk_free(app: App, member: Member) -> int | None:
    """Free bytes where that member's database lies, if it runs here and the configuration says where."""
    for one in app.config.members:
        if one.name == member.name or set(one.peer_urls) & set(member.peer_urls):
            hosts = {urlsplit(url).hostname or "" for url in member.client_urls}
            database = one.data_dir / "member" / "snap" / "db"
            if any(map(app.is_here, hosts)) and _exists(database):
                return shutil.disk_usage(database.parent).free
    return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # not ours to look into
        return False
