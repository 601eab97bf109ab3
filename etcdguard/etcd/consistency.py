"""Whether all members hold the same data, by etcd's own hash of the key space (HashKV).

Hashes tell something only where they are of the same revisions: up to the same one, compacted at the same
one, and by members of the same release line. Members that differ in that are asked again; what stays
incomparable is inconclusive, and never called corruption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from etcdguard.model import HashKV, MemberStatus

__all__ = ["Consistency", "HashSource", "compare", "describe", "judge"]

TRIES = 3
_PAUSE = 1.0

Outcome = Literal["equal", "different", "inconclusive"]


class HashSource(Protocol):
    """A cluster whose members can be hashed; ``etcd.client.EtcdClient`` is one."""

    def status(self, endpoint: str) -> MemberStatus:
        """What that member says of itself."""

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        """Its hash up to that revision, or None when that is not to be had."""


@dataclass(frozen=True)
class Consistency:
    """What was found. ``hashes``: by name, None where there was no hash."""

    outcome: Outcome
    found: str
    """What was seen, one line."""
    hashes: Mapping[str, HashKV | None]

    @property
    def common(self) -> HashKV | None:
        """The hash of all, where they are equal."""
        return next(iter(self.hashes.values())) if self.outcome == "equal" else None


def compare(
    source: HashSource,
    endpoints: Mapping[str, str],
    *,
    timeout: float,
    sleep: Callable[[float], None],
    revision: int | None = None,
    at_once: bool = True,
) -> Consistency:
    """Hash the members at ``endpoints`` (by name), up to ``revision`` or what the slowest has.

    Each hash scans that member's database and may take ``timeout`` seconds; ``at_once`` false lets no two
    members scan at the same time. Asked three times before any outcome but equal is believed. Raises the
    source's errors.
    """
    for attempt in range(TRIES):
        if attempt:
            sleep(_PAUSE)
        result = _once(source, endpoints, timeout, revision, at_once=at_once)
        if result.outcome == "equal":
            break
    return result


def judge(hashes: Mapping[str, HashKV | None], versions: Mapping[str, str]) -> Consistency:
    """What these hashes say, by name; ``versions`` are the members' versions of etcd."""
    each = ", ".join(f"{name} {describe(one)}" for name, one in hashes.items())
    lines = {".".join(version.split(".")[:2]) for version in versions.values()}
    if len(lines) > 1:
        return Consistency(
            "inconclusive", f"release lines differ, so hashes may: {', '.join(sorted(lines))}", hashes
        )
    known = [one for one in hashes.values() if one is not None]
    at = {(one.revision, one.compact_revision) for one in known}
    if len({(one.revision, one.compact_revision, one.hash) for one in known}) > len(at):
        return Consistency("different", f"not equal: {each}", hashes)  # of two that are comparable
    if len(known) < len(hashes) or len(at) != 1:
        return Consistency("inconclusive", f"not comparable: {each or 'no member was asked'}", hashes)
    return Consistency("equal", f"HashKV {describe(known[0])} on all {len(known)}", hashes)


def describe(one: HashKV | None) -> str:
    """A hash for a reader."""
    if one is None:
        return "none"
    return f"{one.hash:08x} at revision {one.revision} (compacted {one.compact_revision})"


def _once(
    source: HashSource,
    endpoints: Mapping[str, str],
    timeout: float,
    revision: int | None,
    *,
    at_once: bool,
) -> Consistency:
    names, urls = tuple(endpoints), tuple(endpoints.values())
    with ThreadPoolExecutor(max(1, len(urls) if at_once else 1), thread_name_prefix="hash-kv") as pool:
        statuses: Sequence[MemberStatus] = tuple(pool.map(source.status, urls))
        common = revision or min((status.revision for status in statuses), default=0)
        hashes = tuple(pool.map(lambda url: source.hash_kv(url, common, timeout), urls))
    versions = {name: status.version for name, status in zip(names, statuses, strict=True)}
    return judge(dict(zip(names, hashes, strict=True)), versions)
