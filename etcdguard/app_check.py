"""What ``app`` builds for the checks of the cluster and of the repositories."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from etcdguard.app import App
from etcdguard.app_defrag import policy_of
from etcdguard.app_look import history_file
from etcdguard.catalog import Catalog
from etcdguard.catalog.catalog import keys_of
from etcdguard.errors import EtcdGuardError, Locked
from etcdguard.log import get_logger
from etcdguard.maintenance.checks.facts import SizePoint
from etcdguard.maintenance.checks.gather import Gatherer, Sources
from etcdguard.maintenance.checks.judge import judge_cluster
from etcdguard.maintenance.checks.trust import certificates
from etcdguard.maintenance.lock_check import check_object_lock
from etcdguard.maintenance.repository_check import check_repository
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.model import Manifest

__all__ = ["check_cluster", "check_repositories"]

_log = get_logger()

_RECENT_BACKUPS = 50


def check_cluster(app: App, *, hash_kv: bool, read_values: bool) -> list[CheckResult]:
    """One line a check; a cluster that nobody answers for is a line too."""
    settings = app.config.checks
    with _gatherer(app) as asks:
        try:
            facts = asks.facts(
                window=settings.window.total_seconds(),
                hash_kv=hash_kv,
                read_values=read_values,
                history=history_file(app).read(),
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
        wanted = app.lock_rule(repository)
        if wanted is not None:
            find = partial(_newest_objects, catalog)
            results += check_object_lock(store, catalog.cluster, wanted, find, now=app.clock.now())
    return results


def _newest_objects(catalog: Catalog) -> tuple[Manifest, tuple[str, ...]] | None:
    """The newest backup that can be read, and the keys of all that belongs to it."""
    found = catalog.recent(1)
    if not found:
        return None
    manifest = found[-1].manifest
    unsigned = {catalog.layout.signature(manifest.id)} if found[-1].signature == "missing" else set()
    return manifest, tuple(key for key in keys_of(catalog.layout, manifest) if key not in unsigned)


@contextmanager
def _gatherer(app: App) -> Iterator[Gatherer]:
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
