"""What ``app`` builds for backups, by hand and by schedule."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from etcdguard.app import App
from etcdguard.backup import BackupJob, BackupOptions
from etcdguard.backup.courtesy import SPOOL_PATIENCE
from etcdguard.backup.due import DueBackup
from etcdguard.backup.ship import Destination, Shipper
from etcdguard.backup.spool import Spool
from etcdguard.errors import ConfigError
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.lock import LeaseLock
from etcdguard.etcd.source import StreamLimits
from etcdguard.progress import Progress

__all__ = ["backup_job", "due_backup"]

_ELECTION_PATIENCE = 10.0
"""Seconds; by default etcd elects a leader within two, and with what suits slow networks within ten."""

_Answer = TypeVar("_Answer")


def backup_job(
    app: App,
    client: EtcdClient,
    progress: Progress,
    *,
    endpoint: str | None = None,
    emergency: bool = False,
    slot: str | None = None,
    max_rate: int | None = None,
) -> BackupJob:
    """The backup of the configured cluster into every configured repository.

    ``max_rate`` (bytes a second) replaces the configured one.
    """
    settings = app.config.backup
    options = BackupOptions(
        cluster_name=app.config.cluster.name,
        recipients=app.recipients(),
        compression_level=settings.compression_level,
        compression_threads=1,  # quicker than none on two cores too (docs/adr/0012)
        prefer=settings.prefer,
        endpoint=endpoint,
        emergency=emergency,
        slot=slot,
        election_patience=_ELECTION_PATIENCE,
        spool_patience=SPOOL_PATIENCE if app.patience is None else app.patience,
        hash_kv_seconds=settings.hash_kv_timeout.total_seconds(),
        limits=StreamLimits(
            stall_timeout=settings.stall_timeout.total_seconds(),
            deadline=settings.timeout.total_seconds(),
            max_bytes=settings.max_bytes,
            max_rate=max_rate or settings.max_rate,
        ),
        local_hosts=app.local_hosts(),
    )
    repositories = app.loaded.repositories()
    signer, _ = app.signer, app.trusted_signers  # a bad key file is told before anything begins
    promised = app.promise().facts

    def shipper() -> Shipper:
        stores = [app.store(repository) for repository in repositories]
        destinations = [Destination(app.catalog_of(store), store) for store in stores]
        return Shipper(destinations, signer, app.tool, app.node, app.clock, promised)

    return BackupJob(
        client,
        Spool(settings.spool_dir),
        _begun(shipper),  # an S3 client takes boto3 a quarter of a second, which the stream hides
        [repository.name for repository in repositories],
        options,
        app.clock,
        progress,
    )


def due_backup(app: App, client: EtcdClient, progress: Progress, lock: LeaseLock) -> DueBackup:
    """The backup that the schedule wants now. ConfigError where there is no schedule.

    The lock is waited for no longer than half the time between two slots.
    """
    settings = app.config.backup
    schedule = settings.schedule
    if schedule is None:
        raise ConfigError("no backup is ever due: there is no schedule", hint="set backup.schedule, e.g. 1h")
    period = schedule.shortest.total_seconds()
    app.keep_to_schedule()
    return DueBackup(
        schedule,
        app.config.cluster.name,
        app.node,
        Spool(settings.spool_dir),
        app.catalogs(),
        lock,
        lambda slot, emergency: backup_job(
            app, client, progress, endpoint=None, emergency=emergency, slot=slot
        ),
        app.clock,
        emergency=settings.emergency,
        patience=min(900.0, period / 2),
    )


def _begun(make: Callable[[], _Answer]) -> Callable[[], _Answer]:
    """Start making it in the background; what is returned waits for it, or raises what making it raised."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(make)
    pool.shutdown(wait=False)
    return future.result
