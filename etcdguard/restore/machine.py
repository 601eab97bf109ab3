"""What the restore asks of the machine it runs on: file systems, listeners, and who holds a directory."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from etcdguard.restore.memory import available_memory
from etcdguard.restore.selinux import SELinux

__all__ = ["Filesystem", "LOCAL", "Machine"]

_CONNECT_TIMEOUT = 4.0
"""Seconds; a first packet that is lost is sent again after one, and again after three."""
_PROC = Path("/proc")
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Filesystem:
    """One mounted file system: what tells it from others, and how many bytes we may still write."""

    device: int
    free_bytes: int


@dataclass(frozen=True)
class Machine:
    """The questions; ``LOCAL`` answers them for this machine, tests for one they made up."""

    filesystem: Callable[[Path], Filesystem]
    """Of an existing directory."""
    listening: Callable[[str, int], bool]
    """Whether something accepts connections at that host and port."""
    holders: Callable[[Path], tuple[str, ...]]
    """The processes that use files below a directory."""
    is_mount: Callable[[Path], bool]
    """Whether something is mounted there."""
    memory: Callable[[], int]
    """Bytes that a file in memory may take without harm."""
    uid: int
    cpus: int
    selinux: SELinux = field(default_factory=SELinux)


def _filesystem(directory: Path) -> Filesystem:
    return Filesystem(directory.stat().st_dev, shutil.disk_usage(directory).free)


def _is_mount(path: Path) -> bool:
    """Of bind mounts too, which ``os.path.ismount`` cannot tell from their own file system."""
    real = str(path.parent.resolve() / path.name)  # nothing is ever mounted on a link
    lines = (_PROC / "self" / "mountinfo").read_text().splitlines()
    return any(_unescaped(line.split(" ")[4]) == real for line in lines)


def _unescaped(field: str) -> str:
    """The kernel writes blanks in paths as three octal digits."""
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), field)


def _listening(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _CONNECT_TIMEOUT):
            return True
    except OSError:  # refused, unreachable, unknown name: nobody is there
        return False


def _holders(directory: Path) -> tuple[str, ...]:
    """Found by their open files, also through bind mounts; failing that by the locks etcd takes."""
    files = {(found.st_dev, found.st_ino): path for path, found in _files(directory)}
    names = tuple(sorted(_open_elsewhere(set(files))))
    if names:
        return names
    # Another user's open files cannot be seen, but its locks can be felt.
    locked = sorted(str(path) for path in files.values() if _is_locked(path))
    return tuple(f"a process that locks {path}" for path in locked[:1])


def _files(directory: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for folder, _, names in os.walk(directory):
        for name in names:
            path = Path(folder, name)
            with suppress(FileNotFoundError):
                yield path, path.lstat()


def _open_elsewhere(wanted: set[tuple[int, int]]) -> Iterator[str]:
    if not wanted:
        return
    for process in _PROC.glob("[0-9]*"):
        # Processes end while we look, and other users' are closed to us.
        with suppress(OSError):
            if process.name != str(os.getpid()) and _opens(process, wanted):
                yield f"{(process / 'comm').read_text().strip()} (pid {process.name})"


def _opens(process: Path, wanted: set[tuple[int, int]]) -> bool:
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            found = descriptor.stat()
            if (found.st_dev, found.st_ino) in wanted:
                return True
    return False


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


LOCAL = Machine(
    filesystem=_filesystem,
    listening=_listening,
    holders=_holders,
    is_mount=_is_mount,
    memory=available_memory,
    uid=os.geteuid(),
    cpus=os.cpu_count() or 1,
)
"""This machine."""
