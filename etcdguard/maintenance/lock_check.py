"""Prove that a repository locks what is written to it, by asking the store for the locks it holds.

A store may take a lock with every write and keep none. So nothing is believed but what it answers: for two
new objects, one written at once and one in parts, and for everything the newest backup consists of.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime, timezone

from etcdguard.errors import AccessDenied, EtcdGuardError, RepositoryError
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.model import Manifest
from etcdguard.storage.base import LockRule, RepositoryStore

__all__ = ["check_object_lock"]

_OURS = (
    "the bucket needs versioning and object lock, which S3 allows at its creation; "
    "reading locks needs s3:GetObjectRetention"
)
_LATER = "what was written before object_lock was set stays as it is; the next backup is locked"


def check_object_lock(
    store: RepositoryStore,
    prefix: str,
    wanted: LockRule,
    newest: Callable[[], tuple[Manifest, Sequence[str]] | None],
    *,
    now: datetime,
    rng: random.Random | None = None,
) -> list[CheckResult]:
    """One line for new objects, one for the newest backup.

    ``prefix`` is the cluster's folder, without a slash at its end; ``newest`` has the newest backup and the
    keys of all that belongs to it. The two canaries are small and stay as locked as everything else: deleted,
    they are hidden until the lock ends.
    """
    rng = rng or random.SystemRandom()
    stamp = now.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    key = f"{prefix}/checks/{stamp}-{rng.getrandbits(32):08x}-locked"
    keys = [key, f"{key}-multipart"]

    def new_objects() -> CheckResult | str:
        store.put(keys[0], b"canary")
        writer = store.multipart(keys[1])
        writer.write_part(1, b"canary")
        writer.complete()
        return _judge(store, keys, wanted, now, _OURS)

    def newest_backup() -> CheckResult | str:
        found = newest()
        if found is None:
            return CheckResult("", Outcome.SKIP, "there is no backup yet")
        manifest, theirs = found
        return _judge(store, theirs, wanted, manifest.created_at, _LATER)

    try:
        results = [_line(store, "object-lock", wanted, new_objects)]
    finally:
        for each in keys:
            _hide(store, each)
    return [*results, _line(store, "locked-backup", wanted, newest_backup)]


def _judge(
    store: RepositoryStore, keys: Sequence[str], wanted: LockRule, since: datetime, hint: str
) -> CheckResult | str:
    """What is wrong with the locks of objects written since then, or how they are locked."""
    locks = {key: store.lock(key) for key in keys}
    broken = [
        f"{key} {found[1]}"
        for key, lock in locks.items()
        if (found := wanted.broken(lock, since)) is not None
    ]
    if broken:
        return CheckResult("", Outcome.FAIL, "; ".join(broken), hint=hint)
    first = min(lock.until for lock in locks.values() if lock is not None)
    return f"{len(keys)} objects {wanted.mode} until {first.isoformat(timespec='seconds')} at least"


def _line(
    store: RepositoryStore, name: str, wanted: LockRule, step: Callable[[], CheckResult | str]
) -> CheckResult:
    name = f"repository.{store.name}.{name}"
    try:
        found = step()
    except EtcdGuardError as e:
        found = CheckResult("", Outcome.FAIL, e.message, hint=e.hint)
    if isinstance(found, str):
        found = CheckResult("", Outcome.OK, found)
    return CheckResult(name, found.outcome, found.value, str(wanted), found.hint, RepositoryError)


def _hide(store: RepositoryStore, key: str) -> None:
    """A writer without the right to delete leaves them in sight, which the line ``delete`` has said."""
    try:
        store.delete(key)
    except AccessDenied:
        return
