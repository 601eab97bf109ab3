"""Cleans up after a set of hosts, also when the process that made it was killed.

A small process of its own reads from a pipe what is to be undone, one line each, and undoes it when the pipe
ends: because the set was closed, or because its owner died in whatever way. There is one way to clean up, so
the ordinary case keeps the other one tested.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["Keeper", "kill_cgroup", "processes_of"]

_CLOSE_TIMEOUT = 90.0
_KILL_TIMEOUT = 30.0
_POLL_SECONDS = 0.01
_GRACE_SECONDS = 3.0


class Keeper:
    """The cleaning process, seen from the one that makes hosts. Tell it before making anything."""

    def __init__(self) -> None:
        # No virtual environment and no package: the file runs alone, with nothing but the standard library.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def undo_cgroup(self, folder: Path) -> None:
        """Kill every process in this control group and below, then remove it."""
        self._tell("cgroup", str(folder))

    def undo_link(self, name: str) -> None:
        """Delete this network link."""
        self._tell("link", name)

    def undo_tree(self, folder: Path) -> None:
        """Remove this folder and what is in it."""
        self._tell("tree", str(folder))

    def close(self) -> None:
        """Undo everything now. Raises RuntimeError when something of it was impossible."""
        _, complaints = self._process.communicate(timeout=_CLOSE_TIMEOUT)
        if self._process.returncode != 0:
            raise RuntimeError(f"hosts were not cleaned up: {complaints.strip()}")

    def _tell(self, kind: str, value: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind} {value}\n")
        self._process.stdin.flush()


def processes_of(cgroup: Path) -> list[int]:
    """The processes in a control group and below it; none when it does not exist."""
    return [pid for folder, _, _ in os.walk(cgroup) for pid in _processes_in(Path(folder))]


def kill_cgroup(cgroup: Path) -> None:
    """Kill every process in a machine's control group, or a set's, and remove the groups below it.

    What runs inside a machine first: nspawn and its shell then end by themselves and leave no zombies. Raises
    TimeoutError.
    """
    inside = [*cgroup.glob("payload"), *cgroup.glob("*/payload")]
    for payload in inside:
        _kill_all(payload)
    grace = time.monotonic() + (_GRACE_SECONDS if inside else 0.0)
    while processes_of(cgroup) and time.monotonic() < grace:
        time.sleep(_POLL_SECONDS)
    _kill_all(cgroup)
    for folder, _, _ in os.walk(cgroup, topdown=False):
        if Path(folder) != cgroup:
            Path(folder).rmdir()


def _kill_all(cgroup: Path) -> None:
    deadline = time.monotonic() + _KILL_TIMEOUT
    while pids := processes_of(cgroup):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{pids} in {cgroup} do not die")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(_POLL_SECONDS)


def _processes_in(group: Path) -> list[int]:
    try:
        pids = [int(line) for line in (group / "cgroup.procs").read_text().split()]
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENODEV):
            return []  # removed since, before or after it was opened: by the systemd inside
        raise
    return [pid for pid in pids if pid]


def _undo(todo: list[tuple[str, str]]) -> None:
    """First what runs, then where it ran."""
    for folder in (Path(value) for kind, value in todo if kind == "cgroup"):
        if folder.exists():
            kill_cgroup(folder)
            folder.rmdir()
    for link in (value for kind, value in todo if kind == "link"):
        if (Path("/sys/class/net") / link).exists():
            subprocess.run(["ip", "link", "delete", link], check=True)
    for folder in (Path(value) for kind, value in todo if kind == "tree"):
        if folder.exists():
            shutil.rmtree(folder)


def _main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    todo = []
    for line in sys.stdin:
        kind, _, value = line.rstrip("\n").partition(" ")
        todo.append((kind, value))
    _undo(todo)


if __name__ == "__main__":
    _main()
