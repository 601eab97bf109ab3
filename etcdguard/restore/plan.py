"""The restore plan: everything a run will do, decided before anything is touched. Pure; no I/O.

A plan is one JSON document. ``restore --dry-run`` prints it, ``restore plan`` writes it, ``restore run``
reads it: what is shown is what is done. The same document goes to every host, because every member must be
made from the same snapshot bytes, token, initial cluster, revision bump and tool version.

What can be derived is derived in one place (``assemble``), and a plan file is read by deriving it again and
comparing: neither an edited field nor a command line slipped into a file is ever acted on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from etcdguard.errors import ConfigError, Refused, UsageError
from etcdguard.etcd.topology import initial_cluster, predict
from etcdguard.model import HashKV, HexId, Sha256
from etcdguard.restore.places import Place, kept_name, staged_name

__all__ = [
    "Bump",
    "ControlPlaneSpec",
    "Phase",
    "PlanSource",
    "PlannedMember",
    "PlannedStep",
    "PlannedTool",
    "RestorePlan",
    "SCHEMA_VERSION",
    "ServiceSpec",
    "SourceMember",
    "assemble",
    "located",
    "plan_document",
    "read_plan",
    "read_plan_document",
    "write_plan",
]

SCHEMA_VERSION = 1

_HINT = "make a new one with `etcdguard restore plan` and copy it to every host unchanged"

Phase = Literal[
    "preflight", "stage", "quiesce", "barrier", "swap", "gate", "start", "prove", "reopen", "record"
]

_KUBEADM_CLIENTS = ("kube-apiserver.yaml", "kube-controller-manager.yaml", "kube-scheduler.yaml")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class PlannedTool(_Part):
    """The program that restores: one name and version on every host, so that all members come out equal."""

    name: str
    version: str
    path: str
    """Where the planning host has it; another host runs its own copy of the same version."""


class Bump(_Part):
    """How many revisions the cluster jumps past the snapshot's; what lies below is marked compacted."""

    revisions: int = Field(gt=0)
    reason: Literal["requested", "kubernetes"]


class ServiceSpec(_Part):
    """What runs etcd on a member's host: a systemd ``unit``, or the kubelet from a pod ``manifest``."""

    kind: Literal["systemd", "static-pod"]
    unit: str | None = None
    manifest: str | None = None
    """An absolute path."""
    user: str | None = None
    """Owner of the restored files; None leaves it to the old directory."""
    group: str | None = None

    @property
    def name(self) -> str:
        """What an operator knows it by: the unit, or the manifest's path."""
        return self.unit or self.manifest or ""

    @model_validator(mode="after")
    def _check(self) -> ServiceSpec:
        if (self.unit, self.manifest)[self.kind == "systemd"] or not self.name:
            raise ValueError("a systemd service has a unit alone, a static pod a manifest alone")
        return self


class ControlPlaneSpec(_Part):
    """What uses etcd on a member's host, and so stops before it and starts after it."""

    units: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    """Pod manifests by absolute path."""
    restart_kubelet: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """All of it in the order in which to stop it, and to start it again: kube-apiserver first."""
        return tuple(sorted((*self.units, *self.manifests), key=lambda name: "kube-apiserver" not in name))


class SourceMember(_Part):
    """A member as it will be restored: where it listens, and where its files go (absolute paths)."""

    name: str
    host: str | None
    ssh: str | None = None
    """What the ssh client is given to reach the host; None: ``host``."""
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    data_dir: str
    wal_dir: str | None
    service: ServiceSpec | None = None
    """None: the operator stops and starts etcd."""
    control_plane: ControlPlaneSpec | None = None
    """None: for a static pod what kubeadm puts beside it, as far as the host has it; else nothing."""

    @property
    def clients(self) -> ControlPlaneSpec:
        """``control_plane`` with its default."""
        if self.control_plane is not None:
            return self.control_plane
        if self.service is None or self.service.manifest is None:
            return ControlPlaneSpec()
        folder = Path(self.service.manifest).parent
        return ControlPlaneSpec(manifests=tuple(str(folder / name) for name in _KUBEADM_CLIENTS))


class PlannedMember(SourceMember):
    """A member with what follows for it: its future id, its directories and its command line."""

    member_id: HexId
    staging_dir: str
    staging_wal_dir: str | None
    kept_dir: str
    """The name the old data directory gets, where there is one."""
    kept_wal_dir: str | None
    snapshot_file: str
    argv: tuple[str, ...]

    @property
    def data_place(self) -> Place:
        """The data directory's names."""
        return Place(Path(self.data_dir), Path(self.staging_dir), Path(self.kept_dir))

    @property
    def wal_place(self) -> Place | None:
        """The names of a separate WAL directory, where there is one."""
        if self.wal_dir is None or self.staging_wal_dir is None or self.kept_wal_dir is None:
            return None
        return Place(Path(self.wal_dir), Path(self.staging_wal_dir), Path(self.kept_wal_dir))

    @property
    def places(self) -> tuple[Place, ...]:
        """Every directory that is swapped."""
        wal = self.wal_place
        return (self.data_place,) if wal is None else (self.data_place, wal)


class PlannedStep(_Part):
    """One thing the run does, in order. ``member`` is None for what is done once on each host."""

    phase: Phase
    member: str | None
    does: str


class PlanSource(_Part):
    """What cannot be derived: the backup's facts and the operator's choices."""

    id: str
    created_at: AwareDatetime
    backup_id: str
    cluster_name: str
    old_cluster_id: HexId
    etcd_version: str
    kubernetes: bool
    snapshot_revision: int
    snapshot_sha256: Sha256
    db_bytes: int
    hash_kv: HashKV | None = None
    """The hash that the manifest has: proving the cluster must not need the repository again."""
    token: str
    tool: PlannedTool
    bump: Bump | None
    members: tuple[SourceMember, ...]
    former_client_urls: tuple[str, ...] = ()
    """Where members that move to other hosts have served clients, and may still do so."""
    notes: tuple[str, ...]
    """What the operator should know before agreeing, a sentence each."""


class RestorePlan(PlanSource):
    """The whole plan."""

    members: tuple[PlannedMember, ...]
    cluster_id: HexId
    initial_cluster: str
    revision: int
    """The revision the restored cluster starts from."""
    steps: tuple[PlannedStep, ...]

    @property
    def client_urls(self) -> list[str]:
        """Those of every member."""
        return [url for member in self.members for url in member.client_urls]

    def member(self, name: str) -> PlannedMember:
        """The member of that name; raises UsageError."""
        for member in self.members:
            if member.name == name:
                return member
        names = ", ".join(member.name for member in self.members)
        raise UsageError(f"the plan has no member {name!r}", hint=f"it restores {names}")


def assemble(source: PlanSource, mounts: Collection[str] = ()) -> RestorePlan:
    """Derive ids, directories, command lines and steps. The same source always gives the same plan.

    ``mounts``: the members' directories that are mount points.
    """
    cluster = initial_cluster(source.members)
    ids = predict(source.members, source.token)
    members = tuple(
        _planned_member(source, member, ids.member_ids[member.name], cluster, mounts)
        for member in source.members
    )
    return RestorePlan(
        **{**dict(source), "members": members},
        cluster_id=ids.cluster_id,
        initial_cluster=cluster,
        revision=source.snapshot_revision + (source.bump.revisions if source.bump else 0),
        steps=tuple(_steps(members)),
    )


def located(plan: RestorePlan, mounts: Collection[str]) -> RestorePlan:
    """The plan as a machine carries it out that has these of its directories as mount points.

    Those stay, and only their contents can be swapped; where that is so only the machine itself knows.
    """
    return assemble(PlanSource.model_validate_json(plan.model_dump_json()), mounts) if mounts else plan


def plan_document(plan: RestorePlan) -> dict[str, Any]:
    """The plan as scripts and plan files carry it, with the sha256 of its canonical JSON."""
    body = plan.model_dump(mode="json")
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    digest = "sha256:" + hashlib.sha256(canonical).hexdigest()
    return {"schema_version": SCHEMA_VERSION, "digest": digest, "plan": body}


def write_plan(plan: RestorePlan) -> bytes:
    """The bytes of a plan file."""
    return (json.dumps(plan_document(plan), indent=2, sort_keys=True) + "\n").encode()


def read_plan(data: bytes) -> RestorePlan:
    """Read a plan file back; raises Refused when it is anything but what ``write_plan`` wrote."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Refused("the file is not a restore plan", hint=_HINT) from e
    return read_plan_document(document)


def read_plan_document(document: Any) -> RestorePlan:
    """Read a plan document back; raises Refused when it is anything but what ``plan_document`` made.

    The ``outlook`` that --dry-run adds is passed over: nothing is done by it.
    """
    try:
        version, body = document["schema_version"], json.dumps(document["plan"])
        if version != SCHEMA_VERSION:
            raise Refused(f"the plan file has schema version {version!r}, not {SCHEMA_VERSION}", hint=_HINT)
        plan = assemble(PlanSource.model_validate_json(body))
    except (ValueError, KeyError, TypeError, ValidationError, ConfigError) as e:
        raise Refused("the file is not a restore plan", hint=_HINT) from e
    if plan_document(plan) != {key: value for key, value in document.items() if key != "outlook"}:
        raise Refused("the plan file was changed after it was written", hint=_HINT)
    return plan


def _planned_member(
    source: PlanSource, member: SourceMember, member_id: str, cluster: str, mounts: Collection[str]
) -> PlannedMember:
    def staged(directory: str) -> str:
        return staged_name(directory, source.id, mounts)

    def kept(directory: str) -> str:
        return kept_name(directory, source.id, mounts)

    snapshot_file = f"{staged(_first_on_host(source, member).data_dir)}.db"
    wal = member.wal_dir
    return PlannedMember(
        **dict(member),
        member_id=member_id,
        staging_dir=staged(member.data_dir),
        staging_wal_dir=None if wal is None else staged(wal),
        kept_dir=kept(member.data_dir),
        kept_wal_dir=None if wal is None else kept(wal),
        snapshot_file=snapshot_file,
        argv=(
            source.tool.path,
            "snapshot",
            "restore",
            snapshot_file,
            f"--name={member.name}",
            f"--initial-cluster={cluster}",
            f"--initial-cluster-token={source.token}",
            f"--initial-advertise-peer-urls={','.join(member.peer_urls)}",
            f"--data-dir={staged(member.data_dir)}",
            *([] if wal is None else [f"--wal-dir={staged(wal)}"]),
            *(
                []
                if source.bump is None
                else [f"--bump-revision={source.bump.revisions}", "--mark-compacted"]
            ),
        ),
    )


def _first_on_host(source: PlanSource, member: SourceMember) -> SourceMember:
    """The member beside which this one's host keeps the snapshot; a member of unknown host stands alone."""
    return next(other for other in source.members if other == member or other.host == member.host is not None)


def _steps(members: tuple[PlannedMember, ...]) -> Iterator[PlannedStep]:
    """Without services, etcd is stopped before and started after the run, by the operator."""
    served = [(member, member.service.name) for member in members if member.service is not None]
    yield PlannedStep(
        phase="preflight",
        member=None,
        does="check signature, key, tool, directories, processes, quorum and free space; nothing is changed",
    )
    for member in members:
        yield PlannedStep(
            phase="stage",
            member=member.name,
            does=f"verify the snapshot in memory (where that is short: {member.snapshot_file}), "
            f"restore it into {member.staging_dir}",
        )
    yield PlannedStep(
        phase="gate", member=None, does="compare the ids written in the staged directories' WAL"
    )
    yield from _stopping(served)
    for member in members:
        for place in member.places:
            yield PlannedStep(
                phase="swap",
                member=member.name,
                does=f"rename {place.target} to {place.kept}, then {place.staged} to {place.target} "
                "(of a mount point: its contents, inside it)",
            )
    yield PlannedStep(phase="gate", member=None, does="compare the ids again, in place")
    yield from _starting(served)
    yield PlannedStep(phase="record", member=None, does="write a restore event to the repository")


def _stopping(served: Sequence[tuple[PlannedMember, str]]) -> Iterator[PlannedStep]:
    """Of members with the name of their etcd's service."""
    for member, _ in served:
        if clients := _client_names(member):
            yield PlannedStep(phase="quiesce", member=member.name, does=f"stop {clients}")
    for member, etcd in served:
        yield PlannedStep(phase="quiesce", member=member.name, does=f"stop etcd: {etcd}")
    if served:
        yield PlannedStep(
            phase="barrier", member=None, does="see that no etcd runs and that all its ports are closed"
        )


def _starting(served: Sequence[tuple[PlannedMember, str]]) -> Iterator[PlannedStep]:
    for member, etcd in served:
        yield PlannedStep(phase="start", member=member.name, does=f"start etcd: {etcd}")
    if served:
        yield PlannedStep(
            phase="prove",
            member=None,
            does="see every voter, one leader, the revision, equal hashes, and a canary key written and read",
        )
    for member, _ in served:
        if clients := _client_names(member):
            yield PlannedStep(phase="reopen", member=member.name, does=f"start {clients}")
        if member.clients.restart_kubelet:
            yield PlannedStep(phase="reopen", member=member.name, does="restart the kubelet")


def _client_names(member: PlannedMember) -> str:
    return ", ".join(member.clients.names)
