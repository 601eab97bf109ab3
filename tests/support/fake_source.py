"""A cluster in memory: the real ``SnapshotSource`` interface without etcd."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from etcdguard.errors import EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.source import EndpointFailure, SnapshotSource, StreamLimits
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus

__all__ = ["FakeSource", "FakeStream", "fake_members"]

_PIECE = 1 << 20


def fake_members(names: Sequence[str] = ("etcd-1", "etcd-2", "etcd-3")) -> list[MemberStatus]:
    """Healthy members at one revision; the first one leads."""
    return [
        MemberStatus(
            endpoint=f"https://{name}:2379",
            cluster_id="c1",
            member_id=_member_id(number),
            version="3.6.0",
            storage_version="3.6.0",
            db_size=4096,
            db_size_in_use=4096,
            db_size_quota=None,
            leader_id=_member_id(1),
            raft_term=2,
            raft_index=100,
            raft_applied_index=100,
            is_learner=False,
            errors=(),
            revision=50,
        )
        for number, name in enumerate(names, start=1)
    ]


def _member_id(number: int) -> str:
    return format(0xA0 + number, "x")


@dataclass
class FakeSource:
    """Serves ``database`` (without trailer) from every member in ``members``.

    ``failures`` are endpoints that do not answer; ``stream_error`` breaks every snapshot after half its
    bytes; ``trailer`` replaces the sound one. ``opened`` and ``closed`` list the endpoints of the streams.
    """

    database: bytes
    members: list[MemberStatus] = field(default_factory=fake_members)
    failures: dict[str, EtcdGuardError] = field(default_factory=dict)
    prefixes: frozenset[bytes] = frozenset()
    hash: HashKV | None = None
    hash_error: EtcdGuardError | None = None
    stream_error: EtcdGuardError | None = None
    trailer: bytes | None = None
    revisions: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_000))
    """What ``status`` says, call after call; by default the cluster is written to all the time."""
    before_piece: Callable[[int], None] = lambda number: None
    """Called with the number of each piece, from 1, before it is sent."""
    opened: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        """Members first to last, those in ``failures`` as failures."""
        return [
            EndpointFailure(one.endpoint, self.failures[one.endpoint])
            if one.endpoint in self.failures
            else one
            for one in self.members
        ]

    def status(self, endpoint: str) -> MemberStatus:
        """The member at the next of ``revisions``."""
        return replace(self._alive(endpoint), revision=next(self.revisions))

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        """All members; raises when ``endpoint`` (or every one) is in ``failures``."""
        alive = [one for one in self.members if one.endpoint not in self.failures]
        if endpoint is not None:
            alive = [self._alive(endpoint)]
        if not alive:
            raise EtcdUnreachable("no endpoint answered", hint="start one")
        return ClusterTopology(
            alive[0].cluster_id,
            tuple(
                Member(
                    id=one.member_id,
                    name=one.endpoint.removeprefix("https://").partition(":")[0],
                    peer_urls=(one.endpoint.replace(":2379", ":2380"),),
                    client_urls=(one.endpoint,),
                    is_learner=one.is_learner,
                )
                for one in self.members
            ),
        )

    def snapshot(self, endpoint: str, limits: StreamLimits) -> FakeStream:
        """The database and its trailer."""
        return FakeStream(self, endpoint)

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        """``hash``, whatever the revision."""
        self._alive(endpoint)
        if self.hash_error is not None:
            raise self.hash_error
        return self.hash

    def holds_prefix(self, endpoint: str, prefix: bytes) -> bool:
        """Whether ``prefix`` is in ``prefixes``."""
        self._alive(endpoint)
        return prefix in self.prefixes

    def _alive(self, endpoint: str) -> MemberStatus:
        if endpoint in self.failures:
            raise self.failures[endpoint]
        return next(one for one in self.members if one.endpoint == endpoint)

    @property
    def snapshot_bytes(self) -> bytes:
        """Everything a stream sends."""
        sound = hashlib.sha256(self.database).digest()
        return self.database + (sound if self.trailer is None else self.trailer)


class FakeStream:
    """One snapshot of a ``FakeSource``."""

    def __init__(self, source: FakeSource, endpoint: str) -> None:
        self._source = source
        self._endpoint = endpoint
        self._entered = False
        self.announced_bytes: int | None = None

    def __enter__(self) -> FakeStream:
        self._source._alive(self._endpoint)
        self._entered = True
        self._source.opened.append(self._endpoint)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._source.closed.append(self._endpoint)

    def __iter__(self) -> Iterator[bytes]:
        assert self._entered, "a stream is iterated inside `with`"
        data = self._source.snapshot_bytes
        self.announced_bytes = len(data)
        end = len(data) // 2 if self._source.stream_error else len(data)
        for number, start in enumerate(range(0, end, _PIECE), start=1):
            self._source.before_piece(number)
            yield data[start : min(start + _PIECE, end)]
        if self._source.stream_error is not None:
            raise self._source.stream_error


_: type[SnapshotSource] = FakeSource  # checked by mypy: the fake implements the real interface
