"""The restore's own way with files: private, durable, and with errors that say what to do."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.storage.durable import sync

__all__ = ["account", "chown_tree", "give_to", "sync_tree", "translating", "write_private"]

_HINTS = {
    errno.ENOSPC: "free space on that file system and run again",
    errno.EDQUOT: "free space on that file system and run again",
    errno.EACCES: "run as root, or as the user that owns the directory",
    errno.EPERM: "run as root, or as the user that owns the directory",
    errno.EXDEV: "the directory is a mount point or overlay: restore onto a plain directory",
    errno.EBUSY: "something still uses the directory: stop it and run again",
}


@contextmanager
def translating(action: str) -> Iterator[None]:
    """Turn every OSError inside into one of ours, once."""
    try:
        yield
    except OSError as e:
        hint = _HINTS.get(e.errno or 0, "check the file system and its directory permissions")
        raise EtcdGuardError(f"cannot {action}: {e.strerror or type(e).__name__}", hint=hint) from e


def write_private(path: Path, pieces: Iterable[bytes]) -> None:
    """Write a new file that only we can read; raises for one that exists."""
    with translating(f"write {path}"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in pieces:
                file.write(piece)


def give_to(tree: Path, owner: os.stat_result) -> None:
    """Make everything in the tree belong to ``owner``'s user and group."""
    chown_tree(tree, owner.st_uid, owner.st_gid)


def chown_tree(tree: Path, uid: int, gid: int) -> None:
    """Make everything in the tree belong to that user and group."""
    os.chown(tree, uid, gid)
    for folder, folders, names in os.walk(tree):
        for name in (*folders, *names):
            os.chown(Path(folder, name), uid, gid, follow_symlinks=False)


def account(user: str, group: str | None) -> tuple[int, int]:
    """The ids of a user and a group (None: the user's own) of this machine; raises Refused."""
    try:
        entry = pwd.getpwnam(user)
        return entry.pw_uid, entry.pw_gid if group is None else grp.getgrnam(group).gr_gid
    except KeyError as e:
        missing = f"user {user!r}" if group is None else f"user {user!r} or group {group!r}"
        raise Refused(
            f"this machine has no {missing}",
            hint="create it, or correct members[].service in the configuration",
        ) from e


def sync_tree(tree: Path) -> None:
    """Make the entries of every folder of the tree, and the tree's own, last."""
    for folder, _, _ in os.walk(tree):
        sync(Path(folder))
    sync(tree.parent)
