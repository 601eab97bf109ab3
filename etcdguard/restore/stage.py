"""Stage: make each member's new directory beside its old one. Nothing the old cluster owns is touched."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from etcdguard.etcd.stream import TRAILER_BYTES
from etcdguard.restore.environment import Environment
from etcdguard.restore.files import account, chown_tree, sync_tree, translating, write_private
from etcdguard.restore.places import Place
from etcdguard.restore.plan import PlannedMember, RestorePlan
from etcdguard.storage.durable import remove_tree

__all__ = ["discard", "owner_of", "snapshot_files", "stage"]

_SPARE_MEMORY = 512 * 1024**2


def stage(plan: RestorePlan, members: Sequence[PlannedMember], environment: Environment) -> None:
    """Restore the snapshot into these members' staging directories.

    The plaintext stands in memory while the tool reads it, or in the planned file where memory is short, and
    is gone in any case; half a staging directory is left to ``discard``.
    """
    discard(members)
    snapshots = snapshot_files(members)
    size = len(snapshots) * (plan.db_bytes + TRAILER_BYTES)
    # As much again for the page cache of what the tool writes, so that nobody else is squeezed out.
    roomy = environment.machine.memory() >= 2 * size + _SPARE_MEMORY
    environment.progress.phase("fetch", size)
    with ExitStack() as stack:
        stands: dict[str, str] = {}
        for snapshot in snapshots:
            plaintext = _in_memory(_watched(environment)) if roomy else _in_file(snapshot, environment)
            stands[str(snapshot)] = stack.enter_context(plaintext)
        environment.progress.phase("stage", None)
        commands = [
            (str(environment.tool.path), *(stands.get(word, word) for word in member.argv[1:]))
            for member in members
        ]
        environment.run_commands(commands, environment.machine.cpus)
    for member in members:
        for place in member.places:
            _make_fit(member, place, root=environment.machine.uid == 0)


@contextmanager
def _in_memory(pieces: Iterator[bytes]) -> Iterator[str]:
    """A file that has no name and that no disk ever sees; answers a path by which our children open it."""
    with translating("hold the snapshot in memory"):
        descriptor = os.memfd_create("etcdguard-snapshot")
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        for piece in pieces:
            with translating("hold the snapshot in memory"):
                file.write(piece)
        file.flush()
        yield f"/proc/{os.getpid()}/fd/{descriptor}"


@contextmanager
def _in_file(path: Path, environment: Environment) -> Iterator[str]:
    try:
        write_private(path, _watched(environment))
        yield str(path)
    finally:
        _remove(path)


def discard(members: Sequence[PlannedMember]) -> None:
    """Remove what this plan has staged, on this run or one that was cut off."""
    for place in (place for member in members for place in member.places):
        with translating(f"remove {place.staged}"):
            remove_tree(place.staged)
    for snapshot in snapshot_files(members):
        _remove(snapshot)


def snapshot_files(members: Sequence[PlannedMember]) -> tuple[Path, ...]:
    """Where the plaintext may stand for these members: once for each host, however many it has."""
    return tuple(Path(name) for name in dict.fromkeys(member.snapshot_file for member in members))


def _remove(snapshot: Path) -> None:
    with translating(f"remove {snapshot}"):
        snapshot.unlink(missing_ok=True)


def _make_fit(member: PlannedMember, place: Place, *, root: bool) -> None:
    """Give the new directory its owner and a mode etcd accepts, and make it durable."""
    with translating(f"prepare {place.staged}"):
        owner = owner_of(member, place)
        if root and owner is not None:
            chown_tree(place.staged, *owner)
        place.staged.chmod(0o700)
        sync_tree(place.staged)


def owner_of(member: PlannedMember, place: Place) -> tuple[int, int] | None:
    """User and group as configured, else of the old directory, else of the member's other one.

    None where nothing says so; raises Refused for an account that this machine does not have.
    """
    service = member.service
    if service is not None and service.user is not None:
        return account(service.user, service.group)
    for known in (place, *member.places):
        if known.target.exists():
            found = known.target.stat()
            return found.st_uid, found.st_gid
    return None


def _watched(environment: Environment) -> Iterator[bytes]:
    for piece in environment.fetch():
        yield piece
        environment.progress.advance(len(piece))
