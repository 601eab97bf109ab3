"""Whether the directories of a restore are what a restore may replace. Only looks."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.machine import Machine
from etcdguard.restore.places import Place, contents
from etcdguard.restore.plan import PlannedMember
from etcdguard.restore.stage import snapshot_files

__all__ = ["check_directories", "check_parent", "check_target", "is_data", "is_wal", "mount_points"]

_BELOW = ("member", "member/snap", "member/wal")


def mount_points(members: Sequence[PlannedMember], machine: Machine) -> tuple[str, ...]:
    """Those of the members' directories that are mount points."""
    targets = (place.target for member in members for place in member.places)
    return tuple(str(target) for target in targets if machine.is_mount(target))


def check_directories(members: Sequence[PlannedMember], machine: Machine) -> Iterator[EtcdGuardError]:
    """One error for every directory that cannot or must not be replaced."""
    places = [place for member in members for place in member.places]
    snapshots = snapshot_files(members)
    for parent in dict.fromkeys(path.parent for path in (*(place.staged for place in places), *snapshots)):
        yield from check_parent(parent)
    for member in members:
        yield from check_target(member.data_place.target, is_data, machine)
        yield from _names(member.data_place, lambda name: name == "member")
        if member.wal_place is not None:
            yield from check_target(member.wal_place.target, is_wal, machine)
            yield from _names(member.wal_place, _is_wal_file)
    for snapshot in snapshots:
        if os.path.lexists(snapshot) and not stat.S_ISREG(snapshot.lstat().st_mode):
            yield _not_ours(snapshot)


def check_parent(parent: Path) -> Iterator[EtcdGuardError]:
    """One error if nothing can be put there."""
    if not parent.is_dir():
        yield Refused(
            f"{parent} is not a directory on this machine",
            hint="check the member's data_dir and wal_dir, and that its disk is mounted",
        )
    elif not os.access(parent, os.W_OK | os.X_OK):
        yield Refused(f"{parent} is not writable", hint="run as root, or as the user that owns the directory")


def check_target(
    target: Path, is_etcd: Callable[[list[str]], bool], machine: Machine
) -> Iterator[EtcdGuardError]:
    """One error if that directory, which may be absent, is not etcd's or not ours to replace.

    ``is_etcd`` judges the names in it.
    """
    if target.is_symlink():
        yield Refused(f"{target} is a symbolic link", hint=f"name the directory itself: {target.resolve()}")
    elif not os.path.lexists(target):
        return
    elif not target.is_dir():
        yield Refused(f"{target} is not a directory", hint="check the member's data_dir and wal_dir")
    elif not os.access(target, os.R_OK | os.X_OK) or machine.uid not in (0, target.stat().st_uid):
        yield Refused(f"{target} belongs to another user", hint="run as root, or as the user etcd runs as")
    elif below := [target / name for name in _BELOW if machine.is_mount(target / name)]:
        yield Refused(
            f"{below[0]} is a mount point, and etcd's own directories must be plain ones",
            hint="for a WAL on a disk of its own give etcd --wal-dir, and the member wal_dir",
        )
    elif not is_etcd(contents(target)):
        yield Refused(
            f"{target} holds something that is not etcd's",
            hint="check the member's data_dir and wal_dir; move the directory away if they are right",
        )


def _names(place: Place, is_ours: Callable[[str], bool]) -> Iterator[EtcdGuardError]:
    """The staging name may hold remains of a run of this plan that was cut off; the kept name is free."""
    if os.path.lexists(place.staged) and not (
        stat.S_ISDIR(place.staged.lstat().st_mode)
        and all(map(is_ours, (entry.name for entry in place.staged.iterdir())))
    ):
        yield _not_ours(place.staged)
    if place.mounted and any(map(os.path.lexists, (place.kept, place.leaving))):
        yield Refused(
            f"{place.kept} exists: this plan has been run here before",
            hint=f"make a new plan; or, to run it again, move etcd's old files from there to {place.target}",
        )
    elif os.path.lexists(place.kept):
        yield Refused(
            f"{place.kept} exists: this plan has been run here before",
            hint=f"to run it again, put the old directory back: mv -T {place.kept} {place.target}"
            if not os.path.lexists(place.target)
            else "start etcd on it, or make a new plan to restore again",
        )


def _not_ours(path: Path) -> Refused:
    return Refused(f"{path} is in the way", hint="move it away; the restore needs that name for itself")


def is_data(names: list[str]) -> bool:
    """Whether a directory with these names is a data directory, or nothing yet."""
    return not names or "member" in names


def is_wal(names: list[str]) -> bool:
    """Whether a directory with these names is a separate WAL directory, or nothing yet."""
    return all(map(_is_wal_file, names))


def _is_wal_file(name: str) -> bool:
    return name.endswith((".wal", ".tmp", ".wal.broken"))
