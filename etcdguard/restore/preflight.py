"""Preflight: everything that can be known to be wrong before anything is changed, found in one pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from etcdguard.catalog import Backup
from etcdguard.errors import Corruption, EtcdGuardError, Refused
from etcdguard.restore.directories import check_directories
from etcdguard.restore.environment import Environment, Overrides
from etcdguard.restore.machine import Filesystem, Machine
from etcdguard.restore.plan import PlannedMember, RestorePlan
from etcdguard.restore.quorum import answers, live_quorum
from etcdguard.restore.stage import owner_of, snapshot_files

__all__ = ["Finding", "check_ready", "check_stopped", "raise_all"]

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One reason not to go on: the check that found it, and the error it amounts to."""

    check: str
    error: EtcdGuardError


def check_ready(
    plan: RestorePlan,
    members: Sequence[PlannedMember],
    overrides: Overrides,
    environment: Environment,
    *,
    will_stop: Collection[str] = (),
) -> tuple[Finding, ...]:
    """Run every check; nothing is changed. An empty answer means that the restore may begin.

    Members named in ``will_stop`` may still run: the restore stops them itself.
    """
    idle = [member for member in members if member.name not in will_stop]
    checks: tuple[tuple[str, Callable[[], Iterator[EtcdGuardError]]], ...] = (
        ("backup", lambda: _backup(plan, overrides, environment.backup)),
        ("key", lambda: _opens(environment)),
        ("tool", lambda: _tool(plan, environment)),
        ("directories", lambda: check_directories(members, environment.machine)),
        ("owner", lambda: _owners(members, environment.machine)),
        ("selinux", lambda: _selinux(environment.machine)),
        ("stopped", lambda: check_stopped(idle, environment.machine)),
        ("quorum", lambda: _quorum(plan, overrides, environment)),
        ("space", lambda: _space(plan, members, environment)),
    )
    return tuple(Finding(name, error) for name, check in checks for error in check())


def raise_all(errors: Sequence[EtcdGuardError]) -> None:
    """Raise the first error, if there is one, its message and hint extended by those of all others."""
    if not errors:
        return
    message = "; ".join(error.message for error in errors)
    hint = "; ".join(dict.fromkeys(error.hint for error in errors))
    raise type(errors[0])(message, hint=hint) from errors[0]


def _backup(plan: RestorePlan, overrides: Overrides, backup: Backup) -> Iterator[EtcdGuardError]:
    facts = backup.manifest.snapshot
    if (backup.id, facts.sha256) != (plan.backup_id, plan.snapshot_sha256):
        yield Corruption(
            f"backup {backup.id} holds another snapshot than the one planned",
            hint="find out who replaced it; plan again only if you trust it",
        )
    if overrides.unsigned:
        return
    try:
        backup.require_trusted()
    except EtcdGuardError as error:
        yield error


def _opens(environment: Environment) -> Iterator[EtcdGuardError]:
    """The first piece has been decrypted and authenticated, which takes the right key."""
    try:
        next(environment.fetch(), None)
    except EtcdGuardError as error:
        yield error


def _tool(plan: RestorePlan, environment: Environment) -> Iterator[EtcdGuardError]:
    planned, tool = plan.tool, environment.tool
    if (tool.kind, tool.version_text) != (planned.name, planned.version):
        yield Refused(
            f"the plan is made for {planned.name} {planned.version}, "
            f"and this machine has {tool.kind} {tool.version_text}",
            hint="every member needs the same tool: pass --etcdutl PATH, or plan again with this one",
        )


def _owners(members: Sequence[PlannedMember], machine: Machine) -> Iterator[EtcdGuardError]:
    """It is known to whom the restored files are to belong, and these users exist here."""
    for member in members:
        try:
            owner = owner_of(member, member.data_place)
        except EtcdGuardError as error:
            yield error
        else:
            service = member.service
            if owner is None and machine.uid == 0 and service is not None and service.kind == "systemd":
                yield Refused(
                    f"nothing says which user {member.data_dir} must belong to: it does not exist yet",
                    hint="set members[].service.user to the one etcd runs as, or create the directory for it",
                )


def _selinux(machine: Machine) -> Iterator[EtcdGuardError]:
    try:
        machine.selinux.check()
    except EtcdGuardError as error:
        yield error


def check_stopped(members: Sequence[PlannedMember], machine: Machine) -> Iterator[EtcdGuardError]:
    """One error for everything that shows that a member still runs here."""
    hint = "stop etcd on this machine, and whatever would start it again, then run this again"
    for member in members:
        open_at = [url for url in (*member.peer_urls, *member.client_urls) if answers(url, machine)]
        if open_at:
            yield Refused(f"something listens at {', '.join(open_at)}, where {member.name} would", hint=hint)
        for place in member.places:
            for holder in machine.holders(place.target):
                yield Refused(f"{holder} uses {place.target}", hint=hint)


def _quorum(plan: RestorePlan, overrides: Overrides, environment: Environment) -> Iterator[EtcdGuardError]:
    if overrides.live_quorum:
        return
    endpoints = (*plan.client_urls, *plan.former_client_urls, *environment.endpoints)
    alive = live_quorum(endpoints, environment.linearizable_read, environment.machine)
    if alive is not None:
        yield alive


def _space(
    plan: RestorePlan, members: Sequence[PlannedMember], environment: Environment
) -> Iterator[EtcdGuardError]:
    """Staging needs room beside the old data: twice the database for each member, and one snapshot file."""
    needed: dict[int, int] = defaultdict(int)
    found: dict[int, tuple[Path, Filesystem]] = {}
    for directory, amount in _writes(plan, members):
        if directory.is_dir():
            filesystem = environment.machine.filesystem(directory)
            needed[filesystem.device] += amount
            found.setdefault(filesystem.device, (directory, filesystem))
    for device, (directory, filesystem) in found.items():
        if filesystem.free_bytes < needed[device]:
            yield Refused(
                f"{directory} has {_mib(filesystem.free_bytes)} MiB free, "
                f"staging needs {_mib(needed[device] + _MIB - 1)} MiB",
                hint="free space there, or restore members to another file system with --data-dir NAME=DIR",
            )


def _writes(plan: RestorePlan, members: Sequence[PlannedMember]) -> Iterator[tuple[Path, int]]:
    for snapshot in snapshot_files(members):
        yield snapshot.parent, plan.db_bytes
    for member in members:
        yield member.data_place.staged.parent, 2 * plan.db_bytes
        yield (member.wal_place or member.data_place).staged.parent, 64 * _MIB  # the first WAL segment


def _mib(amount: int) -> int:
    return amount // _MIB
