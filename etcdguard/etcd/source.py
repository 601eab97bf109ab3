"""The seam between the backup and an etcd cluster, and the values that cross it.

Light on purpose: pure decisions (``backup.choose``) and fakes import this module without gRPC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from etcdguard.errors import EtcdGuardError
from etcdguard.model import ClusterTopology, HashKV, MemberStatus, hex_id

__all__ = ["Alarm", "BlobStream", "EndpointFailure", "SnapshotSource", "StreamLimits"]

_ALARM = re.compile(r"memberID:\s*(\d+)\s+alarm:\s*([A-Z]+)")


@dataclass(frozen=True)
class Alarm:
    """An alarm one member has raised: ``NOSPACE`` or ``CORRUPT``."""

    member_id: str
    kind: str

    @classmethod
    def parse(cls, error: str) -> Alarm | None:
        """The alarm that one of a status's ``errors`` speaks of; None where that is something else."""
        found = _ALARM.search(error)
        return None if found is None else cls(hex_id(int(found[1])), found[2])


@dataclass(frozen=True)
class EndpointFailure:
    """An endpoint that gave no status, and why."""

    endpoint: str
    error: EtcdGuardError


@dataclass(frozen=True)
class StreamLimits:
    """How fast to read a snapshot stream, and when to give up on it."""

    stall_timeout: float = 30.0
    """Seconds without a single byte."""
    deadline: float | None = None
    """Seconds for the whole stream; None for no limit."""
    max_bytes: int = 16 * 1024**3
    """Largest snapshot accepted, trailer included."""
    max_rate: int | None = None
    """Bytes a second to read at most; the member then sends no faster. None: as fast as it goes."""


class BlobStream(Protocol):
    """An open snapshot: the database file and its 32-byte sha256 trailer, in pieces of about 1 MiB.

    Iterated once, inside ``with``; leaving the block releases the member, however it is left. Raises
    SnapshotFailed when the stream stalls, ends early or is not what was announced. The trailer's digest is
    checked by whoever hashes the bytes (``etcd.stream.TrailerCheck``).
    """

    @property
    def announced_bytes(self) -> int | None:
        """Size of the whole stream in bytes, trailer included; None until the first piece has arrived."""

    def __enter__(self) -> BlobStream:
        """From here on the time counts."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the stream if it is still running."""

    def __iter__(self) -> Iterator[bytes]:
        """Pieces in order."""


class SnapshotSource(Protocol):
    """A live cluster as the backup sees it.

    Every method raises EtcdUnreachable when the endpoint does not answer, refuses the credentials or fails
    TLS, and ClusterUnhealthy when etcd answers but cannot do what was asked.
    """

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        """Every configured endpoint's own answer, in the configured order; never raises for one of them."""

    def status(self, endpoint: str) -> MemberStatus:
        """What that member says of itself."""

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        """The members as that endpoint (default: the first that answers) knows them; needs no quorum."""

    def snapshot(self, endpoint: str, limits: StreamLimits) -> BlobStream:
        """A snapshot of that member, not yet started; needs no quorum."""

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        """etcd's hash of that member's key space up to ``revision``; may scan the whole database.

        None when it is not to be had: not within ``timeout`` seconds, or the revision is compacted or not yet
        there.
        """

    def holds_prefix(self, endpoint: str, prefix: bytes) -> bool:
        """Whether that member has a live key that starts with ``prefix``; needs no quorum."""
