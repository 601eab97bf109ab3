"""Swap: the staged directories take the places of the old ones, which are renamed and never deleted.

Where a swap stands is seen from which names exist, given one fact from before it: whether an old directory
stood in the place. That fact is noted before the first rename (on a host, in its journal), and both
directions can be cut off anywhere and run again.

A mount point stays where it is, and its contents move, entry by entry. While the old ones leave or come
back, what they are in is called ``leaving``; renaming that to ``kept``, or back, is the moment at which what
lies in the mount point is no longer the old, or the new.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from etcdguard.errors import Corruption, EtcdGuardError
from etcdguard.restore.files import translating
from etcdguard.restore.machine import Machine
from etcdguard.restore.places import Place, contents
from etcdguard.restore.plan import PlannedMember
from etcdguard.storage.durable import sync

__all__ = ["occupied", "put", "put_back", "relabel"]


def occupied(members: Sequence[PlannedMember]) -> dict[str, bool]:
    """Of every place to be swapped: whether an old directory stands there."""
    return {str(place.target): os.path.lexists(place.target) for place in _places(members)}


def put(members: Sequence[PlannedMember], old: Mapping[str, bool]) -> None:
    """Put every member's staged directories into place; ``old`` is what ``occupied`` said first."""
    for place in _places(members):
        had_old = old[str(place.target)]
        swapped = os.path.lexists(place.kept) if had_old else os.path.lexists(place.target)
        if not swapped and not os.path.lexists(place.staged):
            raise Corruption(
                f"{place.staged} is gone", hint="something removed it; run the plan again to stage it anew"
            )
        if place.mounted:
            _put_contents(place)
            continue
        if had_old and not swapped:
            _rename(place.target, place.kept)
        if os.path.lexists(place.staged):
            _rename(place.staged, place.target)


def put_back(members: Sequence[PlannedMember], old: Mapping[str, bool]) -> None:
    """Take back every rename that ``put`` has done so far, latest first.

    A directory that cannot be put back does not stop the others; raises EtcdGuardError that names all renames
    that are left to do.
    """
    stuck = []
    for place in reversed(list(_places(members))):
        if place.mounted:
            stuck += _undone(list(_contents_back(place)), place)
        else:
            stuck += _undone(list(_directory_back(place, had_old=old[str(place.target)])), place)
    if stuck:
        raise EtcdGuardError(
            "the rollback could not take every rename back",
            hint=f"before etcd starts anywhere, run: {' && '.join(stuck)}",
        )


def relabel(members: Sequence[PlannedMember], machine: Machine) -> None:
    """Give what was put into place the security labels of that place, where the machine has such labels."""
    for place in _places(members):
        new = [place.target / name for name in contents(place.target)] if place.mounted else [place.target]
        machine.selinux.relabel(new)


# -- directories -----------------------------------------------------------------------------------------


def _directory_back(place: Place, *, had_old: bool) -> Iterator[tuple[Path, Path]]:
    if had_old and os.path.lexists(place.kept):
        if os.path.lexists(place.target):
            yield place.target, place.staged
        yield place.kept, place.target
    elif not had_old and os.path.lexists(place.target) and not os.path.lexists(place.staged):
        yield place.target, place.staged


# -- contents of mount points ----------------------------------------------------------------------------


def _put_contents(place: Place) -> None:
    target = place.target
    with translating(f"move the files in {target}"):
        if not os.path.lexists(place.kept):
            place.leaving.mkdir(mode=0o700, exist_ok=True)
            for name in contents(target):
                _rename(target / name, place.leaving / name)
            _make_like(place.leaving, target.stat())
            _rename(place.leaving, place.kept)
        if os.path.lexists(place.staged):
            for entry in sorted(place.staged.iterdir()):
                _rename(entry, target / entry.name)
            for name in contents(target)[:1]:
                _make_like(target, (target / name).stat(), mode=0o700)
            place.staged.rmdir()
            sync(target)


def _contents_back(place: Place) -> Iterator[tuple[Path, Path]]:
    away = place.leaving
    if os.path.lexists(place.kept):
        away = place.kept
        for name in contents(place.target):
            yield place.target / name, place.staged / name
        yield place.kept, place.leaving
    if os.path.lexists(away):
        for entry in sorted(away.iterdir()):
            yield place.leaving / entry.name, place.target / entry.name


def _make_like(folder: Path, model: os.stat_result, *, mode: int | None = None) -> None:
    """Owner and mode; owners are root's to give, and everyone else's files are their own already."""
    if os.geteuid() == 0:
        os.chown(folder, model.st_uid, model.st_gid)
    folder.chmod(stat.S_IMODE(model.st_mode) if mode is None else mode)


# -- common ----------------------------------------------------------------------------------------------


def _undone(moves: Sequence[tuple[Path, Path]], place: Place) -> list[str]:
    """Make these renames; where that is impossible, the commands for the rest of them."""
    done = 0
    try:
        with translating(f"put {place.target} back"):
            if place.mounted and os.path.lexists(place.kept):
                place.staged.mkdir(mode=0o700, exist_ok=True)
                _make_like(place.target, place.kept.stat())
            for now, before in moves:
                _rename(now, before)
                done += 1
            if place.mounted and os.path.lexists(place.leaving):
                place.leaving.rmdir()
                sync(place.target)
    except EtcdGuardError:
        rest = [f"mv -T {now} {before}" for now, before in moves[done:]]
        return [*rest, f"rmdir {place.leaving}"] if place.mounted else rest
    return []


def _places(members: Sequence[PlannedMember]) -> Iterator[Place]:
    return (place for member in members for place in member.places)


def _rename(source: Path, target: Path) -> None:
    with translating(f"rename {source} to {target}"):
        if os.path.lexists(target):  # a file would be lost without a word
            raise FileExistsError(errno.EEXIST, f"{target} exists")
        source.rename(target)
        for folder in dict.fromkeys((target.parent, source.parent)):
            sync(folder)
