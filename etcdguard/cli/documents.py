"""The shapes that scripts rely on (docs/json.md), made from our own types in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etcdguard.cli.output import human_time

if TYPE_CHECKING:
    from etcdguard.backup.spool import SpooledBackup
    from etcdguard.catalog import Backup

__all__ = ["backup_summary", "listed_backup", "verification"]


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
        "failed_level": backup.standing.failed and backup.standing.failed.level,
        "failed_at": backup.standing.failed and backup.standing.failed.at,
        "held": backup.held,
    }


def verification(listed: Mapping[str, Any]) -> str:
    """What verification found, of a listed backup, in a few words."""
    found = [("FAILED ", "failed"), ("", "verified")]
    told = [
        f"{word}{listed[f'{name}_level']} {human_time(listed[f'{name}_at'])}"
        for word, name in found
        if listed[f"{name}_level"]
    ]
    return ", ".join(told) or "-"
