"""Stage: make each member's new directory beside its old one. Nothing the old cluster owns is touched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from etcdguard.etcd.stream import TRAILER_BYTES
from etcdguard.restore.environment import Environment
from etcdguard.restore.files import account, chown_tree, sync_tree, translating, write_private
from etcdguard.restore.places import Place
from etcdguard.restore.plan import PlannedMember, RestorePlan
from etcdguard.storage.durable import remove_tree

__all__ = ["discard", "owner_of", "snapshot_files", "stage"]


def stage(plan: RestorePlan, members: Sequence[PlannedMember], environment: Environment) -> None:
    """Restore the snapshot into these members' staging directories.

    The plaintext file is removed in any case; half a staging directory is left to ``discard``.
    """
    discard(members)
    snapshots = snapshot_files(members)
    environment.progress.phase("fetch", len(snapshots) * (plan.db_bytes + TRAILER_BYTES))
    try:
        for snapshot in snapshots:
            write_private(snapshot, _watched(environment))
        environment.progress.phase("stage", None)
        commands = [(str(environment.tool.path), *member.argv[1:]) for member in members]
        environment.run_commands(commands, environment.machine.cpus)
    finally:
        _remove_snapshots(members)
    for member in members:
        for place in member.places:
            _make_fit(member, place, root=environment.machine.uid == 0)


def discard(members: Sequence[PlannedMember]) -> None:
    """Remove what this plan has staged, on this run or one that was cut off."""
    for place in (place for member in members for place in member.places):
        with translating(f"remove {place.staged}"):
            remove_tree(place.staged)
    _remove_snapshots(members)


def snapshot_files(members: Sequence[PlannedMember]) -> tuple[Path, ...]:
    """Where the plaintext snapshot stands for these members: once for each host, however many it has."""
    return tuple(Path(name) for name in dict.fromkeys(member.snapshot_file for member in members))


def _remove_snapshots(members: Sequence[PlannedMember]) -> None:
    for snapshot in snapshot_files(members):
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
