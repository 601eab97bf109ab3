"""Every error a user can meet, as one tree.

::

    EtcdGuardError                     1
    ├── SpoolFailed                    1   the local spool cannot be written
    ├── UsageError                    64   bad flags or arguments
    │   └── ConfigError               64   bad configuration file or environment
    ├── EtcdUnreachable                2   no endpoint answered, TLS failed, or credentials were refused
    │   └── SnapshotFailed             2   the stream stalled, ended early or was not a snapshot
    ├── PartialFailure                 3   some destination or member failed, others succeeded
    ├── ClusterUnhealthy               5   etcd answers, but no member is fit for the job
    ├── RepositoryError               10   the repository cannot be found or used
    │   ├── ObjectNotFound            10
    │   ├── ObjectExists              10   a create-only write found the key taken
    │   ├── AccessDenied              10
    │   ├── StoreUnavailable          10   a passing fault: worth retrying
    │   └── UnsupportedFormat         10   written by a newer etcdguard
    ├── Locked                        11   another etcdguard holds the lock
    ├── WrongKey                      12   missing or wrong identity, passphrase or signer
    ├── Corruption                    13   bytes are not what the manifest says
    ├── Stale                         14   the newest backup is too old
    ├── Refused                       15   a policy or safety check says no
    └── Interrupted                  130

Every error carries ``hint``: what to try next, one line. ``cli.main`` is the only place that turns an error
into an exit code; the numbers are a promise to scripts (docs/exit-codes.md).
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "EtcdGuardError",
    "SpoolFailed",
    "UsageError",
    "ConfigError",
    "EtcdUnreachable",
    "SnapshotFailed",
    "PartialFailure",
    "ClusterUnhealthy",
    "RepositoryError",
    "ObjectNotFound",
    "ObjectExists",
    "AccessDenied",
    "StoreUnavailable",
    "UnsupportedFormat",
    "Locked",
    "WrongKey",
    "Corruption",
    "Stale",
    "Refused",
    "Interrupted",
]


class EtcdGuardError(Exception):
    """Base of the tree. ``message`` says what happened, ``hint`` what to try; both are one line."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpoolFailed(EtcdGuardError):
    """The local spool cannot be written: disk full, read-only, or not ours."""


class UsageError(EtcdGuardError):
    """Bad flags or arguments; nothing was started."""

    exit_code = 64


class ConfigError(UsageError):
    """The configuration cannot be used as written."""


class EtcdUnreachable(EtcdGuardError):
    """No endpoint answered, TLS failed, or the credentials were refused."""

    exit_code = 2


class SnapshotFailed(EtcdUnreachable):
    """The snapshot stream stalled, ended early, grew past its limit or is not a snapshot."""


class PartialFailure(EtcdGuardError):
    """Some destination or member failed while others succeeded."""

    exit_code = 3


class ClusterUnhealthy(EtcdGuardError):
    """etcd answers, but no member is fit for what was asked."""

    exit_code = 5


class RepositoryError(EtcdGuardError):
    """The repository cannot be found or used as configured."""

    exit_code = 10


class ObjectNotFound(RepositoryError):
    """No object stands at that key."""


class ObjectExists(RepositoryError):
    """A create-only write found the key taken; nothing was changed."""


class AccessDenied(RepositoryError):
    """The store refused the credentials or the operation."""


class StoreUnavailable(RepositoryError):
    """A passing fault (timeout, reset, 5xx, throttling, body cut short); a later try may succeed."""


class UnsupportedFormat(RepositoryError):
    """The repository or a manifest was written in a format this version does not know."""


class Locked(EtcdGuardError):
    """Another etcdguard process holds the lock; ``holder`` is who, where that is known."""

    exit_code = 11

    def __init__(self, message: str, *, hint: str, holder: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.holder = holder


class WrongKey(EtcdGuardError):
    """The identity, passphrase or signer is missing or does not fit."""

    exit_code = 12


class Corruption(EtcdGuardError):
    """Bytes are not what the manifest, the trailer or their own structure says."""

    exit_code = 13


class Stale(EtcdGuardError):
    """The newest backup is older than allowed."""

    exit_code = 14


class Refused(EtcdGuardError):
    """A policy or a safety check says no; nothing was changed."""

    exit_code = 15


class Interrupted(EtcdGuardError):
    """The user or the system asked us to stop."""

    exit_code = 130
