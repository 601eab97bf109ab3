"""Frozen value types shared by every room. No I/O, no clock, no environment.

The manifest types follow docs/repository-format.md field by field: readers ignore unknown fields, and refuse
wrong types rather than coerce them.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

__all__ = [
    "BackupId",
    "Cluster",
    "ClusterTopology",
    "Compression",
    "Encryption",
    "FORMAT",
    "HashKV",
    "HexId",
    "Manifest",
    "Member",
    "MemberStatus",
    "ObjectEntry",
    "Previous",
    "RetentionLock",
    "Sha256",
    "SnapshotFacts",
    "Tool",
    "hex_id",
]

FORMAT: Final = "etcdguard/1"

HexId = Annotated[str, StringConstraints(pattern=r"^(0|[1-9a-f][0-9a-f]{0,15})$")]
"""An etcd member or cluster id as etcdctl prints it: lower-case hexadecimal without leading zeros."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

Count = Annotated[int, Field(ge=0)]


def hex_id(number: int) -> str:
    """The printed form of a 64-bit etcd id."""
    return format(number, "x")


_TWO = "([0-9]{2})"
_ID = re.compile(rf"([0-9]{{4}}){_TWO}{_TWO}T{_TWO}{_TWO}{_TWO}Z-r([0-9]{{20}})-([0-9a-f]{{8}})")
_ID_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, order=True)
class BackupId:
    """``<UTC basic time>-r<revision, 20 digits>-<8 hex random>``: sorts by time and shows the revision."""

    taken_at: datetime
    revision: int
    suffix: str

    @classmethod
    def new(cls, taken_at: datetime, revision: int) -> BackupId:
        """A fresh id; the random suffix keeps two nodes in the same second apart."""
        return cls(taken_at.astimezone(timezone.utc).replace(microsecond=0), revision, secrets.token_hex(4))

    @classmethod
    def parse(cls, text: str) -> BackupId:
        """Raise ValueError for anything but the canonical form."""
        match = _ID.fullmatch(text)
        if match is None:
            raise ValueError(f"not a backup id: {text!r}")
        # Lists parse tens of thousands; strptime would take six times as long.
        year, month, day, hour, minute, second, revision = map(int, match.groups()[:7])
        taken_at = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
        return cls(taken_at, revision, match[8])

    def __str__(self) -> str:
        return f"{self.taken_at.strftime(_ID_TIME)}-r{self.revision:020d}-{self.suffix}"


class _Value(BaseModel):
    """Immutable, strictly typed, tolerant only of fields added by later minor versions."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Tool(_Value):
    """The program that wrote the backup."""

    name: str
    version: str


class Previous(_Value):
    """The link to the manifest before this one: its id and the sha256 of its exact bytes."""

    id: str
    sha256: Sha256


class Cluster(_Value):
    """The cluster and the member the snapshot was taken from."""

    name: str
    cluster_id: HexId
    member_id: HexId
    member_name: str
    etcd_version: str
    storage_version: str | None = None
    kubernetes: bool = False
    """True when the member held keys under /registry/: restore then bumps revisions by default."""


class Member(_Value):
    """One etcd member as the cluster knows it."""

    id: HexId
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    is_learner: bool = False


class SnapshotFacts(_Value):
    """What the snapshot's own pages say. ``total_keys`` counts revisions in the key bucket."""

    revision: Count
    compact_revision: int
    consistent_index: Count
    total_keys: Count
    db_bytes: Count
    """Size of the bbolt file in bytes, without the 32-byte trailer."""
    sha256: Sha256


class HashKV(_Value):
    """etcd's own hash of the key space up to ``revision``, from the member that was snapshotted."""

    hash: Count
    revision: Count
    compact_revision: int


class ObjectEntry(_Value):
    """One stored object, as stored: key relative to the cluster's folder, ciphertext size and digest."""

    key: str
    bytes: Count
    sha256: Sha256


class Compression(_Value):
    """How the snapshot was compressed before encryption."""

    algorithm: Literal["zstd"]
    level: int


class Encryption(_Value):
    """Fingerprints of the recipients, never the recipients themselves."""

    format: Literal["age-encryption.org/v1"]
    recipients: tuple[str, ...]


class RetentionLock(_Value):
    """The object lock actually requested from the store."""

    lock_mode: str
    lock_until: AwareDatetime


class Manifest(_Value):
    """The commit point of a backup (docs/repository-format.md).

    Backups are ordered by ``(epoch, snapshot.revision, sequence)``; ``created_at`` is advisory. ``epoch``
    counts the cluster ids seen under this cluster name, so that a restored cluster's lower revisions still
    come after those of the cluster it replaced.
    """

    format: Literal["etcdguard/1"]
    id: str
    sequence: Count
    epoch: Count
    previous: Previous | None
    created_at: AwareDatetime
    finished_at: AwareDatetime
    tool: Tool
    node: str
    slot: str | None = None
    cluster: Cluster
    members: tuple[Member, ...]
    snapshot: SnapshotFacts
    hash_kv: HashKV | None
    objects: tuple[ObjectEntry, ...]
    compression: Compression
    encryption: Encryption | None
    retention: RetentionLock | None = None

    @property
    def order(self) -> tuple[int, int, int]:
        """Sort key: later compares greater, whatever the clocks said."""
        return (self.epoch, self.snapshot.revision, self.sequence)

    @property
    def stored_bytes(self) -> int:
        """Bytes this backup occupies in a repository, without manifest and signature."""
        return sum(entry.bytes for entry in self.objects)


@dataclass(frozen=True)
class ClusterTopology:
    """The members of a cluster as one of them reports."""

    cluster_id: str
    members: tuple[Member, ...]

    def by_id(self, member_id: str) -> Member | None:
        """The member with that id, or None."""
        return next((member for member in self.members if member.id == member_id), None)

    @property
    def voters(self) -> tuple[Member, ...]:
        """Members that count for quorum."""
        return tuple(member for member in self.members if not member.is_learner)


@dataclass(frozen=True)
class MemberStatus:
    """One endpoint's answer to Maintenance.Status. Sizes in bytes; None: this etcd has no such field."""

    endpoint: str
    cluster_id: str
    member_id: str
    version: str
    storage_version: str | None
    db_size: int
    db_size_in_use: int | None
    db_size_quota: int | None
    leader_id: str
    """``"0"`` when the member knows no leader."""
    raft_term: int
    raft_index: int
    raft_applied_index: int
    is_learner: bool
    errors: tuple[str, ...]
    revision: int
    """The store revision from the response header."""

    @property
    def is_leader(self) -> bool:
        """True when this member leads."""
        return self.leader_id == self.member_id
