"""The shapes that scripts rely on (docs/json.md), made from our own types in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etcdguard.backup.spool import SpooledBackup
    from etcdguard.catalog import Backup

__all__ = ["backup_summary", "listed_backup"]


def backup_summary(backup: SpooledBackup, seconds: float) -> dict[str, Any]:
    """The ``backup`` of ``etcdguard backup -o json``."""
    return {
        "id": backup.id,
        "revision": backup.snapshot.revision,
        "cluster_id": backup.cluster.cluster_id,
        "db_bytes": backup.snapshot.db_bytes,
        "stored_bytes": backup.stored.bytes,
        "sha256": backup.snapshot.sha256,
        "duration_seconds": round(seconds, 3),
    }


def listed_backup(backup: Backup) -> dict[str, Any]:
    """One of ``backups`` of ``etcdguard list -o json``."""
    manifest = backup.manifest
    return {
        "id": backup.id,
        "created_at": manifest.created_at,
        "revision": manifest.snapshot.revision,
        "cluster_id": manifest.cluster.cluster_id,
        "db_bytes": manifest.snapshot.db_bytes,
        "total_keys": manifest.snapshot.total_keys,
        "stored_bytes": manifest.stored_bytes,
        "signed": backup.signature == "valid",
        "verified_level": backup.verified and backup.verified.level,
        "verified_at": backup.verified and backup.verified.at,
        "held": backup.held,
    }
