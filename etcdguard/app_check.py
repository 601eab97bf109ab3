"""What ``app`` builds for the checks: the cluster's, and whether a restore would work from here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from etcdguard.app import App
from etcdguard.errors import EtcdGuardError, Locked
from etcdguard.log import get_logger
from etcdguard.maintenance.checks.facts import SizePoint
from etcdguard.maintenance.checks.gather import Gatherer, Sources
from etcdguard.maintenance.checks.judge import judge_cluster
from etcdguard.maintenance.checks.trust import certificates
from etcdguard.maintenance.results import CheckResult, Outcome

__all__ = ["check_cluster", "gatherer"]

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
    return judge_cluster(facts, settings.limits)


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
