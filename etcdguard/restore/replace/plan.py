"""The plan of a replacement: what is lost, where it stood, and what will be done. Pure.

It is kept in the state directory while it is carried out: once the member is removed, the cluster no longer
knows its name and URLs, and a run after a crash must.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from etcdguard.errors import Refused, UsageError
from etcdguard.etcd.topology import canonical_urls
from etcdguard.etcd.wal import WalMetadata
from etcdguard.model import ClusterTopology, HexId, Member
from etcdguard.restore.places import kept_name
from etcdguard.restore.plan import SourceMember
from etcdguard.restore.planner import DEFAULT_DATA_DIR, MemberSpec, member_directory

__all__ = ["Aside", "ReplacePlan", "Step", "joining", "make_plan", "next_step", "others", "step_texts"]

Step = Literal["stop", "remove", "set-aside", "add", "seed", "start", "promote", "verify"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Aside(_Part):
    """A directory of the lost member, and the one its contents go to."""

    directory: str
    kept: str


class ReplacePlan(_Part):
    """Everything a run needs besides the cluster itself."""

    id: str
    created_at: AwareDatetime
    cluster_name: str
    cluster_id: HexId
    member: SourceMember
    old_member_id: HexId | None
    """None when the lost member has been removed already."""
    asides: tuple[Aside, ...]
    endpoints: tuple[str, ...]
    """Client URLs of the other members."""
    notes: tuple[str, ...]
    """What the operator should know before agreeing, a sentence each."""


def make_plan(
    name: str,
    configured: MemberSpec | None,
    topology: ClusterTopology,
    *,
    cluster_name: str,
    data_dir: str | None,
    wal_dir: str | None,
    node: str,
    is_mount: Callable[[Path], bool],
    is_here: Callable[[str], bool],
    now: datetime,
    token_hex: Callable[[int], str],
) -> ReplacePlan:
    """Plan to replace ``name``; the configuration has the last word on its URLs, else ``topology``.

    ``is_here`` says whether a URL's host is this machine. Raises UsageError for a member that neither knows,
    and Refused for one without a vote.
    """
    lost = next((member for member in topology.members if member.name == name), None)
    if lost is not None and lost.is_learner:
        raise Refused(
            f"{name} is a learner and has no vote", hint="remove it with `etcdctl member remove`, add it anew"
        )
    spec = configured or (None if lost is None else MemberSpec(name, lost.peer_urls, lost.client_urls))
    if spec is None:
        known = ", ".join(member.name or member.id for member in topology.members)
        raise UsageError(
            f"the cluster has no member {name!r}; there are {known}",
            hint="if it has been removed already, list it with its peer_urls under `members`",
        )
    plan_id = f"{now.astimezone(timezone.utc).strftime('%Y%m%dT%H%M%SZ')}-{token_hex(4)}"
    separate = wal_dir or spec.wal_dir
    member = SourceMember(
        name=name,
        host=spec.host or node,
        peer_urls=canonical_urls(spec.peer_urls),
        client_urls=spec.client_urls or (() if lost is None else lost.client_urls),
        data_dir=member_directory(data_dir or spec.data_dir or DEFAULT_DATA_DIR),
        wal_dir=None if separate is None else member_directory(separate),
        service=spec.service,
        control_plane=spec.control_plane,
    )
    return ReplacePlan(
        id=plan_id,
        created_at=now,
        cluster_name=cluster_name,
        cluster_id=topology.cluster_id,
        member=member,
        old_member_id=None if lost is None else lost.id,
        asides=tuple(
            Aside(directory=path, kept=kept_name(path, plan_id, [path] if is_mount(Path(path)) else []))
            for path in (member.data_dir, member.wal_dir)
            if path is not None
        ),
        endpoints=tuple(url for other in topology.members if other.name != name for url in other.client_urls),
        notes=tuple(_notes(member, is_here)),
    )


def next_step(
    plan: ReplacePlan, topology: ClusterTopology, ids: WalMetadata | None, *, occupied: bool
) -> Step:
    """What to do now, given the members, the ids in this host's log, and whether it holds other files.

    Derived from what is, not from what was done: so a run after a crash goes on where the last one stopped.
    """
    if plan.old_member_id is not None and topology.by_id(plan.old_member_id) is not None:
        return "remove"
    new = joining(plan, topology)
    if new is not None and ids == WalMetadata(new.id, topology.cluster_id):
        if not new.name:
            return "start"
        return "promote" if new.is_learner else "verify"
    if new is not None and new.name:
        raise Refused(
            f"{plan.member.name} had joined as {new.id}, and its log is not in {plan.asides[-1].directory}",
            hint=f"was it lost again? remove replace-{plan.member.name}.jsonl from restore.state_dir first",
        )
    if occupied:
        return "set-aside"
    return "add" if new is None else "seed"


def joining(plan: ReplacePlan, topology: ClusterTopology) -> Member | None:
    """The new member, as soon as the cluster knows it; it has no name before it has started."""
    urls = set(plan.member.peer_urls)
    return next(
        (
            member
            for member in topology.members
            if member.id != plan.old_member_id and urls == set(canonical_urls(member.peer_urls))
        ),
        None,
    )


def others(plan: ReplacePlan, topology: ClusterTopology) -> tuple[Member, ...]:
    """The voters that the new member is not."""
    new = joining(plan, topology)
    gone = {plan.old_member_id, None if new is None else new.id}
    return tuple(member for member in topology.voters if member.id not in gone)


def step_texts(plan: ReplacePlan) -> Sequence[tuple[Step, str]]:
    """The steps for a reader."""
    name, service = plan.member.name, plan.member.service
    by = "wait until you have started etcd" if service is None else f"start {service.name}"
    down = "check that etcd is stopped" if service is None else f"stop {service.name} and keep it down"
    moves = ", ".join(f"{aside.directory} to {aside.kept}" for aside in plan.asides)
    return (
        ("stop", down),
        ("remove", f"remove {plan.old_member_id or name} from the cluster, unless it is removed already"),
        ("set-aside", f"move what is in {moves}; nothing is deleted"),
        ("add", f"add {','.join(plan.member.peer_urls)} as a learner, which has no vote"),
        (
            "seed",
            "write the new member's ids into a new write-ahead log: --initial-cluster* are ignored then",
        ),
        ("start", f"{by}, and until it has joined"),
        ("promote", "give it its vote as soon as it has caught up"),
        ("verify", "compare the hashes of all members"),
    )


def _notes(member: SourceMember, is_here: Callable[[str], bool]) -> Iterator[str]:
    if not any(map(is_here, member.peer_urls)):
        yield (
            f"None of {', '.join(member.peer_urls)} is an address of this machine: "
            f"is this {member.name}'s host?"
        )
    if member.service is None:
        yield "No service is configured: stop etcd yourself, and start it when told to."
