"""The lost member's directories: their contents set aside, and the beginning of a new member in them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.etcd.wal import FIRST_SEGMENT, WalMetadata, first_segment
from etcdguard.restore.directories import check_parent, check_target, is_data, is_wal
from etcdguard.restore.files import account, chown_tree, give_to, sync_tree, translating
from etcdguard.restore.machine import Machine
from etcdguard.restore.places import STAGED, contents
from etcdguard.restore.plan import SourceMember
from etcdguard.restore.replace.plan import ReplacePlan
from etcdguard.storage.durable import remove_tree, sync

__all__ = ["check", "found_ids", "occupied", "seed", "set_aside"]


def check(plan: ReplacePlan, machine: Machine) -> Iterator[EtcdGuardError]:
    """One error for every directory that cannot or must not be used. Only looks."""
    for aside in plan.asides:
        directory = Path(aside.directory)
        judge = is_wal if aside.directory == plan.member.wal_dir else is_data
        yield from check_parent(directory.parent)
        yield from check_target(directory, judge, machine)


def found_ids(member: SourceMember, read: Callable[[Path], WalMetadata]) -> WalMetadata | None:
    """Whose log stands in the member's directories; None where there is none that can be read."""
    try:
        return read(_log_folder(member))
    except EtcdGuardError:  # absent or damaged: what is there is set aside in any case
        return None


def occupied(plan: ReplacePlan) -> bool:
    """Whether there is anything to set aside."""
    return any(contents(Path(aside.directory)) for aside in plan.asides)


def set_aside(plan: ReplacePlan, *, root: bool) -> None:
    """Move the contents of every directory to where they are kept; a run that was cut off goes on.

    The directories themselves stay, with their owner, mode and security label.
    """
    for aside in plan.asides:
        directory, kept = Path(aside.directory), Path(aside.kept)
        names = contents(directory)
        if not names:
            continue
        with translating(f"move the files of {directory} to {kept}"):
            if not kept.exists():
                kept.mkdir(mode=0o700)
                if root:
                    give_to(kept, directory.stat())
            for name in names:
                if os.path.lexists(kept / name):
                    raise Refused(
                        f"{kept / name} is in the way", hint="move it elsewhere, then run this again"
                    )
                (directory / name).rename(kept / name)
            for folder in (kept, directory, kept.parent):
                sync(folder)


def seed(plan: ReplacePlan, ids: WalMetadata, *, root: bool) -> None:
    """Begin the new member's log; it stands whole or not at all."""
    member = plan.member
    data, log = Path(member.data_dir), _log_folder(member)
    with translating(f"begin a write-ahead log in {log}"):
        for directory in (Path(aside.directory) for aside in plan.asides):
            if not directory.exists():
                directory.mkdir(mode=0o700)
                if root:
                    _own(directory, member)
                sync(directory.parent)
        if member.wal_dir is None:
            staged = data / f"member{STAGED}{plan.id}"
            remove_tree(staged)
            staged.mkdir(mode=0o700)
            (staged / "wal").mkdir(mode=0o700)
            _write(staged / "wal" / FIRST_SEGMENT, first_segment(ids))
            target = data / "member"
        else:
            staged = log / f"{FIRST_SEGMENT}{STAGED}{plan.id}"
            staged.unlink(missing_ok=True)
            _write(staged, first_segment(ids))
            target = log / FIRST_SEGMENT
        if root:
            _own(staged, member)
        sync_tree(staged)
        staged.rename(target)
        sync(target.parent)


def _log_folder(member: SourceMember) -> Path:
    return Path(member.data_dir, "member", "wal") if member.wal_dir is None else Path(member.wal_dir)


def _own(tree: Path, member: SourceMember) -> None:
    """Give it to whom the service is configured to run as, else to the owner of the directory it is in."""
    service = member.service
    if service is not None and service.user is not None:
        chown_tree(tree, *account(service.user, service.group))
    else:
        give_to(tree, tree.parent.stat())


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
