"""The chain of manifests: each names the digest of the one before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from etcdguard.catalog.codec import manifest_digest
from etcdguard.model import Manifest, Previous

__all__ = ["Link", "Position", "link_problem", "next_position"]


@dataclass(frozen=True)
class Link:
    """One manifest with its exact bytes, as far as the chain cares."""

    manifest: Manifest
    raw: bytes


@dataclass(frozen=True)
class Position:
    """Where a new manifest stands."""

    sequence: int
    epoch: int
    previous: Previous | None


def next_position(links: Iterable[Link], cluster_id: str) -> Position:
    """The position after the highest sequence, whatever the clocks said.

    A cluster id other than the head's opens a new epoch: a restored cluster counts revisions anew, and its
    backups still come after those of the cluster that it replaced.
    """
    head = max(links, key=lambda link: (link.manifest.sequence, link.manifest.id), default=None)
    if head is None:
        return Position(sequence=1, epoch=1, previous=None)
    before = head.manifest
    epoch = before.epoch if before.cluster.cluster_id == cluster_id else before.epoch + 1
    return Position(before.sequence + 1, epoch, Previous(id=before.id, sha256=manifest_digest(head.raw)))


def link_problem(manifest: Manifest, raw_by_id: Mapping[str, bytes]) -> str | None:
    """What is wrong with a manifest's link to the one before it; None also when that one has been pruned."""
    previous = manifest.previous
    if previous is None:
        return None if manifest.sequence == 1 else f"sequence {manifest.sequence} names no previous manifest"
    raw = raw_by_id.get(previous.id)
    if raw is not None and manifest_digest(raw) != previous.sha256:
        return f"the chain is broken: {previous.id} is not the manifest this one was written after"
    return None
