"""Backup: choose a member, stream, spool, ship, commit."""

from etcdguard.backup.run import BackupJob, BackupOptions, BackupReport

__all__ = ["BackupJob", "BackupOptions", "BackupReport"]
