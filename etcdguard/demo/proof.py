"""What must hold after the restore, as pure functions of what was seen: whether it does, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from etcdguard.demo.data import Contents
from etcdguard.model import ClusterTopology, HashKV, MemberStatus

__all__ = [
    "Proof",
    "cluster_id",
    "deletes",
    "hashes",
    "keys",
    "leader",
    "lease",
    "revision",
    "voters",
    "write",
]


@dataclass(frozen=True)
class Proof:
    """One thing that had to be shown. ``found`` is what was seen, one line."""

    name: str
    holds: bool
    found: str


def voters(topology: ClusterTopology, statuses: Sequence[MemberStatus], expected: Collection[str]) -> Proof:
    """Every expected member votes, nobody else is there, and each of them answered for itself."""
    names = sorted(member.name for member in topology.voters)
    answered = {status.member_id for status in statuses}
    whole = names == sorted(expected) and answered == {member.id for member in topology.members}
    return Proof("voters", whole, f"{len(answered)} members run, voters are {', '.join(names)}")


def leader(topology: ClusterTopology, statuses: Sequence[MemberStatus]) -> Proof:
    """All follow the same voter."""
    leaders = {status.leader_id for status in statuses}
    names = [member.name for member in topology.voters if member.id in leaders]
    one = len(leaders) == len(names) == 1
    return Proof("leader", one, f"all follow {names[0]}" if one else f"leaders are {_list(leaders)}")


def cluster_id(statuses: Sequence[MemberStatus], planned: str, old: str) -> Proof:
    """A new cluster, as planned, so that nothing of the old one can join it."""
    found = {status.cluster_id for status in statuses}
    return Proof(
        "cluster", found == {planned} and planned != old, f"{_list(found)}, planned {planned}, before {old}"
    )


def revision(statuses: Sequence[MemberStatus], recorded: int) -> Proof:
    """No member is ahead of the backup or behind it."""
    found = {status.revision for status in statuses}
    return Proof("revision", found == {recorded}, f"{_list(found)}, the manifest says {recorded}")


def hashes(found: Mapping[str, HashKV | None], recorded: HashKV | None) -> Proof:
    """All members hash alike, and like the snapshotted one did where both hashed the same revisions.

    ``found``: by member, None where it could not be had.
    """
    distinct = set(found.values())
    if len(distinct) != 1 or None in distinct:
        each = ", ".join(f"{name} {_hash(one)}" for name, one in found.items())
        return Proof("hash", False, f"not equal: {each}")
    one = next(iter(distinct))
    equal = f"HashKV {_hash(one)} on all {len(found)}"
    if recorded is None:
        return Proof("hash", True, f"{equal}; the manifest has none to compare")
    if one is None or (one.revision, one.compact_revision) != (recorded.revision, recorded.compact_revision):
        return Proof("hash", True, f"{equal}; not comparable with the manifest's {_hash(recorded)}")
    if one.hash != recorded.hash:
        return Proof("hash", False, f"{equal}, but the manifest says {_hash(recorded)}")
    return Proof("hash", True, f"{equal} and in the manifest")


def keys(before: Contents, after: Contents) -> Proof:
    """The same keys, and each with its value, its revisions, its version and its lease."""
    was, now = before.keys, after.keys
    if was != now or not was:
        changed = [name for name in was.keys() & now.keys() if was[name] != now[name]]
        differences = {"missing": was.keys() - now.keys(), "new": now.keys() - was.keys(), "changed": changed}
        return Proof(
            "keys", False, "; ".join(f"{what}: {_list(names)}" for what, names in differences.items())
        )
    return Proof("keys", True, f"all {len(before.keys)} with value, version and revisions as before")


def deletes(deleted: Collection[str], late: str, after: Contents) -> Proof:
    """What was deleted before the backup, and what was written after it, is not there."""
    back = {*deleted, late} & after.keys.keys()
    if back:
        return Proof("deletes", False, f"these are there: {_list(back)}")
    return Proof(
        "deletes", True, f"{len(deleted)} deleted keys stay deleted; {late}, not in the backup, is gone"
    )


def lease(before: Contents, after: Contents) -> Proof:
    """The lease lives, with its time and its keys."""
    was, now = before.lease, after.lease
    same = (was.id, was.granted, was.keys) == (now.id, now.granted, now.keys)
    return Proof(
        "lease",
        same and now.left > 0 and bool(was.keys),
        f"{now.id:x} holds {len(now.keys)} of {len(was.keys)} keys, {now.left} s of {was.granted} s left",
    )


def write(written: str, read: str | None, name: str) -> Proof:
    """A new value, written through one member, is read through another, called ``name``."""
    return Proof(
        "write", read == written, f"a new value is read from {name}" if read == written else f"{read!r}"
    )


def _hash(one: HashKV | None) -> str:
    return (
        "none"
        if one is None
        else f"{one.hash:08x} at revision {one.revision} (compacted {one.compact_revision})"
    )


def _list(items: Collection[object]) -> str:
    return ", ".join(sorted(map(str, items))) or "none"
