"""File system steps that survive a power cut, and what their errors mean to the user of a repository."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from etcdguard.errors import AccessDenied, RepositoryError, StoreUnavailable

__all__ = ["inherit_owner", "make_folders", "remove_tree", "sync", "translating", "write"]

_NO_SPACE = (RepositoryError, "free space on the repository's file system")
_NO_ACCESS = (
    AccessDenied,
    "check owner and mode of the directory, and that its file system knows hard links",
)
_PASSING = (StoreUnavailable, "check the network file system that holds the repository")
_CLASH = (RepositoryError, "a file stands where a folder is needed, or the other way round; move it away")

_MEANING: dict[int, tuple[type[RepositoryError], str]] = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: _NO_SPACE,
    errno.EACCES: _NO_ACCESS,
    errno.EPERM: _NO_ACCESS,
    errno.EROFS: _NO_ACCESS,
    errno.EOPNOTSUPP: _NO_ACCESS,
    errno.ESTALE: _PASSING,
    errno.ETIMEDOUT: _PASSING,
    errno.EISDIR: _CLASH,
    errno.ENOTDIR: _CLASH,
    errno.EEXIST: _CLASH,
}


@contextmanager
def translating(repository: str, action: str, key: str) -> Iterator[None]:
    """Turn every OSError inside into one of ours, once."""
    try:
        yield
    except OSError as e:
        kind, hint = _MEANING.get(
            e.errno or 0, (RepositoryError, "check the repository's directory and disk")
        )
        raise kind(
            f"repository {repository}: cannot {action} {key}: {e.strerror or type(e).__name__}", hint=hint
        ) from e


def write(path: Path, data: bytes) -> None:
    """Fill a private file, new or not; not yet durable."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        inherit_owner(path)
        file.write(data)


def inherit_owner(path: Path) -> None:
    """As root, give what was just made to its folder's owner: an unprivileged service may go on there."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def make_folders(folder: Path) -> None:
    """Like ``mkdir -p``, private and durable; NotADirectoryError where a file stands in the way."""
    while not folder.is_dir():
        make_folders(folder.parent)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError as e:
            # Somebody else was quicker, and may have removed it again since: then it is our turn.
            if _stands_in_the_way(folder):
                raise NotADirectoryError(errno.ENOTDIR, "a file stands where a folder is needed") from e
        else:
            inherit_owner(folder)
            sync(folder.parent)


def _stands_in_the_way(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)  # one look: it may come and go
    except FileNotFoundError:
        return False


def sync(folder: Path) -> None:
    """Make a folder's entries last. A folder that is gone has none; who removed it syncs its parent."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all below it; an absent one is success."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)
