"""Swap: the staged directories take the places of the old ones, which are renamed and never deleted.

Where a swap stands is seen from which of the three names exist, given one fact from before it: whether an old
directory stood in the place. That fact is noted before the first rename (on a host, in its journal), and both
directions can be cut off anywhere and run again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from etcdguard.errors import Corruption, EtcdGuardError
from etcdguard.restore.files import translating
from etcdguard.restore.plan import Place, PlannedMember
from etcdguard.storage.durable import sync

__all__ = ["occupied", "put", "put_back"]


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
        if had_old and not swapped:
            _rename(place.target, place.kept)
        if os.path.lexists(place.staged):
            _rename(place.staged, place.target)


def put_back(members: Sequence[PlannedMember], old: Mapping[str, bool]) -> None:
    """Take back every rename that ``put`` has done so far, latest first.

    A rename that cannot be taken back does not stop the others; raises EtcdGuardError that names them.
    """
    stuck = []
    for place in reversed(list(_places(members))):
        for now, before in _backwards(place, had_old=old[str(place.target)]):
            try:
                _rename(now, before)
            except EtcdGuardError:
                stuck.append(f"mv -T {now} {before}")
    if stuck:
        raise EtcdGuardError(
            "the rollback could not take every rename back",
            hint=f"before etcd starts anywhere, run: {' && '.join(stuck)}",
        )


def _backwards(place: Place, *, had_old: bool) -> Iterator[tuple[Path, Path]]:
    if had_old and os.path.lexists(place.kept):
        if os.path.lexists(place.target):
            yield place.target, place.staged
        yield place.kept, place.target
    elif not had_old and os.path.lexists(place.target) and not os.path.lexists(place.staged):
        yield place.target, place.staged


def _places(members: Sequence[PlannedMember]) -> Iterator[Place]:
    return (place for member in members for place in member.places)


def _rename(source: Path, target: Path) -> None:
    with translating(f"rename {source} to {target}"):
        source.rename(target)
        sync(source.parent)
