"""How much memory a file that lives in it may take here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["available_memory"]

_KIB = 1024
_FILES = {"": ("memory.max", "memory.current"), "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""A control group's limit and usage in bytes, by the controller its line names: version 2 and version 1."""
_MOUNTS = {"": (".", "unified"), "memory": ("memory",)}


def available_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be had without swapping, and without passing a limit of our control groups.

    0 where the kernel does not say, as behind systemd's ``ProcSubset=pid``. What a group has in its page
    cache counts as used, so that the answer errs to the small side. Source: proc(5), cgroups(7).
    """
    try:
        found = _of_machine((proc / "meminfo").read_text())
        return max(0, min([found, *_of_groups((proc / "self" / "cgroup").read_text(), cgroups)]))
    except OSError:
        return 0


def _of_machine(meminfo: str) -> int:
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * _KIB
    return 0


def _of_groups(lines: str, root: Path) -> Iterator[int]:
    """What is left of each limit on the way from our group to the root."""
    for line in lines.splitlines():
        _, controllers, path = line.split(":", 2)
        names = [name for name in controllers.split(",") if name in _FILES]
        for name in names:
            group = Path(path.lstrip("/"))
            for mount in _MOUNTS[name]:
                for folder in (group, *group.parents):
                    yield from _left(root / mount / folder, *_FILES[name])


def _left(folder: Path, limit: str, usage: str) -> Iterator[int]:
    try:
        most, used = (folder / limit).read_text().strip(), (folder / usage).read_text()
    except FileNotFoundError:  # a root has no limit, and a group outside our name space no folder
        return
    if most != "max":
        yield int(most) - int(used)
