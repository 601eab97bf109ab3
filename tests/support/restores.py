"""What the restore's tests share: a manifest of any snapshot, and a world to restore in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from etcdguard.model import Cluster, Compression, Manifest, Member, ObjectEntry, SnapshotFacts
from etcdguard.model import Tool as Writer
from tests.support.etcdctl import Etcdctl
from tests.support.waiting import eventually

__all__ = ["NOW", "SteppingClock", "in_pieces", "make_manifest", "make_members", "wait_applied"]

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)


class SteppingClock:
    """A clock that moves on by one second each time it is read."""

    def __init__(self) -> None:
        self._seconds = 0

    def now(self) -> datetime:
        self._seconds += 1
        return NOW + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        self._seconds += 1
        return float(self._seconds)


def make_members(*names: str, scheme: str = "http") -> tuple[Member, ...]:
    """Members at 10.0.0.1, 10.0.0.2, ... as a cluster would report them."""
    return tuple(
        Member(
            id=format(number, "x"),
            name=name,
            peer_urls=(f"{scheme}://10.0.0.{number}:2380",),
            client_urls=(f"{scheme}://10.0.0.{number}:2379",),
        )
        for number, name in enumerate(names, 1)
    )


def make_manifest(
    members: Sequence[Member] = (),
    *,
    etcd_version: str = "3.5.21",
    kubernetes: bool = False,
    cluster_id: str = "cafe",
    revision: int = 5033,
    db_bytes: int = 1024 * 1024,
    sha256: str = "0" * 64,
) -> Manifest:
    """A manifest with these facts; everything a restore does not look at is made up."""
    members = tuple(members) or make_members("m1", "m2", "m3")
    backup_id = f"20261121T010000Z-r{revision:020d}-9f31c2aa"
    return Manifest(
        format="etcdguard/1",
        id=backup_id,
        sequence=1,
        epoch=1,
        previous=None,
        created_at=NOW,
        finished_at=NOW,
        tool=Writer(name="etcdguard", version="0"),
        node="backup-host",
        cluster=Cluster(
            name="prod",
            cluster_id=cluster_id,
            member_id=members[0].id,
            member_name=members[0].name,
            etcd_version=etcd_version,
            kubernetes=kubernetes,
        ),
        members=members,
        snapshot=SnapshotFacts(
            revision=revision,
            compact_revision=0,
            consistent_index=1,
            total_keys=1,
            db_bytes=db_bytes,
            sha256=sha256,
        ),
        hash_kv=None,
        objects=(ObjectEntry(key=f"backups/{backup_id}/snapshot.db.zst.age", bytes=1, sha256="0" * 64),),
        compression=Compression(algorithm="zstd", level=1),
        encryption=None,
    )


def wait_applied(etcdctl: Etcdctl, revision: int) -> None:
    """Wait until every member has applied that revision: an acknowledged write is only sure to be on most."""

    def applied() -> bool:
        statuses = etcdctl.json("endpoint", "status")
        return all(one["Status"]["header"]["revision"] >= revision for one in statuses)

    eventually(applied, f"every member has reached revision {revision}")


def in_pieces(data: bytes, size: int = 64 * 1024) -> Iterator[bytes]:
    """The data as a fetch yields it."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
