"""From a backup's manifest and the operator's choices to a plan. Pure: time and randomness are arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import PurePosixPath

from etcdguard.errors import Refused, UsageError
from etcdguard.etcd.tools import Tool
from etcdguard.etcd.topology import canonical_urls
from etcdguard.model import Manifest
from etcdguard.restore.member_spec import MemberSpec
from etcdguard.restore.moves import advice, move
from etcdguard.restore.plan import (
    Bump,
    PlannedTool,
    PlanSource,
    RestorePlan,
    SourceMember,
    assemble,
)

__all__ = [
    "Choices",
    "DEFAULT_DATA_DIR",
    "KUBERNETES_BUMP",
    "MemberSpec",
    "check_tool",
    "make_plan",
    "member_directory",
]

DEFAULT_DATA_DIR = "/var/lib/etcd"

KUBERNETES_BUMP = 1_000_000_000
"""The amount etcd's own recovery guide uses: years of writes at hundreds a second, and far below 2**63."""

_MAX_REVISION = 2**63 - 1
_ZOMBIES_FIXED = (3, 5, 26)


@dataclass(frozen=True)
class Choices:
    """What the operator asked for. ``bump`` is in revisions; None leaves the default of the backup's kind."""

    here: frozenset[str] = frozenset()
    """Members that live on this machine."""
    all_here: bool = False
    """All do for which no other host is known."""
    data_dirs: Mapping[str, str] = field(default_factory=dict)
    wal_dirs: Mapping[str, str] = field(default_factory=dict)
    bump: int | None = None
    mark_compacted: bool = False
    no_bump: bool = False
    moves: Mapping[str, str] = field(default_factory=dict)
    """Old hosts to new ones, as ``moves.read_moves`` reads them."""
    leave_out: frozenset[str] = frozenset()
    """Members that are not to come back."""


def make_plan(
    manifest: Manifest,
    configured: Sequence[MemberSpec],
    choices: Choices,
    tool: Tool,
    *,
    node: str,
    now: datetime,
    token_hex: Callable[[int], str],
) -> RestorePlan:
    """Plan the restore of ``manifest`` onto the ``configured`` members, or without any onto those it lists.

    ``node`` names this machine; ``token_hex`` is ``secrets.token_hex``. Raises UsageError for choices that do
    not fit, and Refused for a tool that must not be used or a voter that would be forgotten.
    """
    check_tool(tool, manifest.cluster.etcd_version)
    bump = _bump(manifest, choices, tool)
    before = configured or [MemberSpec(one.name, one.peer_urls, one.client_urls) for one in manifest.members]
    after = move(before, choices.moves)
    specs, notes = _voters(manifest, after, choices.leave_out)
    here = frozenset(spec.name for spec in specs) if choices.all_here else choices.here
    members = tuple(_source_member(spec, choices, node if spec.name in here else None) for spec in specs)
    _check_members(members, choices, here)
    _check_complete(manifest, specs, choices.leave_out)
    plan_id = f"{now.astimezone(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}-{token_hex(4)}"
    return assemble(
        PlanSource(
            id=plan_id,
            created_at=now,
            backup_id=manifest.id,
            cluster_name=manifest.cluster.name,
            old_cluster_id=manifest.cluster.cluster_id,
            etcd_version=manifest.cluster.etcd_version,
            kubernetes=manifest.cluster.kubernetes,
            snapshot_revision=manifest.snapshot.revision,
            snapshot_sha256=manifest.snapshot.sha256,
            db_bytes=manifest.snapshot.db_bytes,
            hash_kv=manifest.hash_kv,
            # A reused token lets a member with the old data join and diverge without an error.
            token=f"etcdguard-{plan_id}-{token_hex(16)}",
            tool=PlannedTool(name=tool.kind, version=tool.version_text, path=str(tool.path)),
            bump=bump,
            members=members,
            former_client_urls=_left_behind(before, after),
            notes=(*notes, *advice(before, after), *_advice(manifest, bump, tool)),
        )
    )


def check_tool(tool: Tool, etcd_version: str) -> None:
    """Refuse a tool that could write what the cluster's etcd does not understand.

    The release line must be the cluster's; 3.5 also restores for 3.4, whose own tool leaves the old members
    in the file (etcd #20967).
    """
    wanted = ".".join(etcd_version.split(".")[:2])
    allowed = ("3.4", "3.5") if wanted == "3.4" else (wanted,)
    if tool.minor not in allowed:
        program = "etcdctl or etcdutl" if wanted in ("3.4", "3.5") else "etcdutl"
        raise Refused(
            f"{tool.path} is {tool.kind} {tool.version_text}, but the backup is of etcd {etcd_version}",
            hint=f"pass --etcdutl PATH with an {program} {' or '.join(allowed)}",
        )


def _bump(manifest: Manifest, choices: Choices, tool: Tool) -> Bump | None:
    if (choices.bump is not None) != choices.mark_compacted:
        raise UsageError(
            "--bump-revision and --mark-compacted go together",
            hint="without the mark, clients could read revisions that never were; give both or neither",
        )
    if choices.bump is not None and choices.no_bump:
        raise UsageError("--no-bump contradicts --bump-revision", hint="give one of them")
    if choices.no_bump or (choices.bump is None and not manifest.cluster.kubernetes):
        return None
    if choices.bump is None:
        bump, opt_out = Bump(revisions=KUBERNETES_BUMP, reason="kubernetes"), ", or --no-bump to go without"
    else:
        _check_amount(choices.bump, manifest.snapshot.revision)
        bump, opt_out = Bump(revisions=choices.bump, reason="requested"), ""
    if not tool.can_bump_revision:
        raise Refused(
            f"{tool.kind} {tool.version_text} cannot bump revisions; clients that watch would miss changes",
            hint=f"pass --etcdutl PATH with 3.4.27, 3.5.10, 3.6 or later of that line{opt_out}",
        )
    return bump


def _check_amount(amount: int, revision: int) -> None:
    if not 0 < amount <= _MAX_REVISION - revision:
        raise UsageError(
            f"--bump-revision {amount} is out of range",
            hint=f"any positive number of revisions will do; etcd's guide uses {KUBERNETES_BUMP}",
        )


def _left_behind(before: Sequence[MemberSpec], after: Sequence[MemberSpec]) -> tuple[str, ...]:
    """Where members that move have served clients."""
    new = {url for spec in after for url in spec.client_urls}
    return tuple(url for spec in before for url in spec.client_urls if url not in new)


def _voters(
    manifest: Manifest, known: Sequence[MemberSpec], leave_out: frozenset[str]
) -> tuple[list[MemberSpec], list[str]]:
    """The members to restore, by name, and a note for each that is left out."""
    learners = {member.name for member in manifest.members if member.is_learner}
    specs, notes = [], []
    for spec in sorted(known, key=lambda spec: spec.name):
        if spec.name in learners:
            notes.append(f"{spec.name} was a learner and is left out: add it again after the restore.")
        elif not spec.name:
            notes.append(f"A member at {','.join(spec.peer_urls)} had never started and is left out.")
        elif spec.name not in leave_out:
            specs.append(spec)
    for name in sorted(leave_out):
        notes.append(f"{name} is left out: never start it on its old data again, it is of another cluster.")
    return specs, notes


def _check_complete(manifest: Manifest, specs: Sequence[MemberSpec], leave_out: frozenset[str]) -> None:
    """A voter that nobody thought of would stay behind, stopped by nobody and with the old data."""
    voters = {member.name for member in manifest.members if member.name and not member.is_learner}
    missing = voters - {spec.name for spec in specs}
    for name in sorted(leave_out - missing):
        raise UsageError(
            f"--leave-out {name}: the backup has no such voter", hint=f"it has {', '.join(sorted(voters))}"
        )
    forgotten = ", ".join(sorted(missing - leave_out))
    # As many members under other names are the same cluster, renamed.
    if forgotten and len(specs) + len(leave_out) < len(voters):
        raise Refused(
            f"the cluster in the backup has {forgotten} too, which the configuration does not name",
            hint="complete `members`, or --leave-out NAME for each that is not to come back",
        )


def _advice(manifest: Manifest, bump: Bump | None, tool: Tool) -> Iterable[str]:
    if bump is not None and bump.reason == "kubernetes":
        yield f"Revisions jump by {bump.revisions}, so that every Kubernetes watch starts over."
    elif bump is None and manifest.cluster.kubernetes:
        yield "Without a revision bump, Kubernetes controllers may miss changes: restart all of them."
    if tool.version < _ZOMBIES_FIXED:
        yield (
            f"{tool.kind} {tool.version_text} may leave old members in the file, which return on an upgrade "
            "(etcd #20967); 3.5.26 or later does not."
        )
    yield "A snapshot holds no certificates, keys or configuration: they must be on every host already."


def _source_member(spec: MemberSpec, choices: Choices, node: str | None) -> SourceMember:
    wal_dir = choices.wal_dirs.get(spec.name) or spec.wal_dir
    return SourceMember(
        name=spec.name,
        host=spec.host or node,
        ssh=spec.ssh,
        peer_urls=canonical_urls(spec.peer_urls),
        client_urls=spec.client_urls,
        data_dir=member_directory(choices.data_dirs.get(spec.name) or spec.data_dir or DEFAULT_DATA_DIR),
        wal_dir=None if wal_dir is None else member_directory(wal_dir),
        service=spec.service,
        control_plane=spec.control_plane,
    )


def member_directory(path: str) -> str:
    """``path`` in one spelling; raises UsageError for what no host could tell apart."""
    plain = PurePosixPath(path)
    if not plain.is_absolute() or ".." in plain.parts or len(plain.parts) < 2:
        raise UsageError(
            f"{path!r} cannot be a member's directory", hint="give an absolute path without '..'"
        )
    return "/" + "/".join(plain.parts[1:])


def _check_members(members: Sequence[SourceMember], choices: Choices, here: frozenset[str]) -> None:
    names = [member.name for member in members]
    for name in {*here, *choices.data_dirs, *choices.wal_dirs} - set(names):
        raise UsageError(
            f"no voting member is called {name!r}; there are {', '.join(names)}",
            hint="name members as the configuration, or else `etcdguard show`, lists them",
        )
    if not choices.all_here and len({member.host for member in members if member.name in here}) > 1:
        raise UsageError(
            "these members live on different hosts",
            hint="make a plan with `etcdguard restore plan -o FILE`, then `restore run` it on each host",
        )
    _check_directories(members)


def _check_directories(members: Sequence[SourceMember]) -> None:
    """No two directories on one host may be the same or inside each other."""
    taken = [
        (member.host or member.name, member.name, PurePosixPath(path))
        for member in members
        for path in (member.data_dir, member.wal_dir)
        if path is not None
    ]
    for index, (host, name, path) in enumerate(taken):
        for other_host, other_name, other in taken[:index]:
            if host == other_host and (path == other or path in other.parents or other in path.parents):
                raise UsageError(
                    f"{other} of {other_name} and {path} of {name} overlap",
                    hint="give each its own directory: --data-dir NAME=DIR, --wal-dir NAME=DIR",
                )
