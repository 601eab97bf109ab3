"""A cluster over gRPC: status, members, hashes, snapshots. Implements ``source.SnapshotSource``.

Connections and authentication go through python3-etcd3; the calls use the messages of ``wire``, because that
library's date from 2018 (docs/adr/0001-etcd3-through-python3-etcd3.md).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import etcd3
import grpc
from google.protobuf.message import Message

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable, SnapshotFailed
from etcdguard.etcd.auth import Metadata, TokenKeeper
from etcdguard.etcd.connection import Address, ConnectionOptions, Tls, open_endpoint
from etcdguard.etcd.faults import is_deadline, is_token_rejected, translate
from etcdguard.etcd.source import Alarm, EndpointFailure, StreamLimits
from etcdguard.etcd.stream import SnapshotStream
from etcdguard.etcd.streaming import messages_of
from etcdguard.etcd.wire import wire_pb2 as wire
from etcdguard.log import get_logger
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus, hex_id

__all__ = ["ALARM", "Alarm", "EtcdClient", "Method", "RANGE", "prefix_end"]

_log = get_logger()

_Answer = TypeVar("_Answer", bound=Message)
_Client = TypeVar("_Client", bound="EtcdClient")

_NO_SUCH_REVISION = grpc.StatusCode.OUT_OF_RANGE
_DENIED = grpc.StatusCode.PERMISSION_DENIED
_USER_MISSING = "user name is empty"
_FIRST_KEY = b"\0"


@dataclass(frozen=True)
class Method(Generic[_Answer]):
    """One unary call: its full name, and the message it is answered with."""

    path: str
    answer: type[_Answer]


_STATUS = Method("/etcdserverpb.Maintenance/Status", wire.StatusResponse)
_HASH_KV = Method("/etcdserverpb.Maintenance/HashKV", wire.HashKVResponse)
ALARM = Method("/etcdserverpb.Maintenance/Alarm", wire.AlarmResponse)
_MEMBER_LIST = Method("/etcdserverpb.Cluster/MemberList", wire.MemberListResponse)
RANGE = Method("/etcdserverpb.KV/Range", wire.RangeResponse)
_SNAPSHOT = "/etcdserverpb.Maintenance/Snapshot"


class EtcdClient:
    """A cluster through its configured endpoints; safe to share between threads. Close it, or use ``with``.

    Nothing is sent before the first call. Methods that take an endpoint take any spelling of any endpoint,
    configured or not. Raises EtcdUnreachable when an endpoint does not answer, refuses the credentials or
    fails TLS, and ClusterUnhealthy when etcd answers that it cannot serve.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        self._options = options
        needs_tls = options.cacert or options.cert or any(address.secure for address in options.addresses)
        self._tls = Tls(options) if needs_tls else None
        self._endpoints: dict[Address, etcd3.Endpoint] = {}
        self._lock = threading.Lock()
        self._tokens: TokenKeeper | None = None
        if options.user is not None and options.password is not None:
            self._tokens = TokenKeeper(
                options.user, options.password, options.command_timeout, options.addresses, self._endpoint
            )

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The configured endpoints as canonical URLs, each once."""
        return tuple(map(str, self._options.addresses))

    def __enter__(self: _Client) -> _Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every channel; a snapshot has a connection of its own."""
        with self._lock:
            for endpoint in self._endpoints.values():
                endpoint.close()
            self._endpoints.clear()

    def status(self, endpoint: str) -> MemberStatus:
        """What that member says of itself."""
        address = self._options.address(endpoint)
        answer = self._call(address, _STATUS, wire.StatusRequest())
        if not answer.header.cluster_id:
            raise EtcdUnreachable(
                f"{address}: the answer is not an etcd member's", hint="check that this endpoint is etcd"
            )
        return _member_status(str(address), answer)

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        """Every configured endpoint's own answer, asked in parallel, in the configured order.

        Two endpoints that lead to one member give two answers.
        """

        def ask(endpoint: str) -> MemberStatus | EndpointFailure:
            try:
                return self.status(endpoint)
            except EtcdGuardError as e:
                return EndpointFailure(endpoint, e)

        with ThreadPoolExecutor(len(self.endpoints), thread_name_prefix="etcd-status") as pool:
            return list(pool.map(ask, self.endpoints))

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        """The members as that endpoint (default: the first that answers) knows them; needs no quorum."""
        if endpoint is not None:
            return self._topology(self._options.address(endpoint))
        failures: list[EtcdGuardError] = []
        for address in self._options.addresses:
            try:
                return self._topology(address)
            except EtcdGuardError as e:
                failures.append(e)
        if len(failures) == 1:
            raise failures[0]
        raise EtcdUnreachable(
            f"no endpoint answered: {'; '.join(failure.message for failure in failures)}",
            hint=failures[0].hint,
        ) from failures[0]

    def linearizable_read(self, endpoint: str) -> None:
        """Prove that a quorum stands behind that endpoint; raises ClusterUnhealthy when none does."""
        address = self._options.address(endpoint)
        request = wire.RangeRequest(key=_FIRST_KEY, limit=1, count_only=True)
        try:
            self._send(address, RANGE, request)
        except grpc.RpcError as e:
            if e.code() == _DENIED:
                return  # etcd asks the quorum before it looks at the user's rights
            if is_deadline(e):
                self.status(endpoint)  # raises when the member is not there at all
                raise ClusterUnhealthy(
                    f"{address}: a linearizable read had no answer in {self._options.command_timeout:g} s",
                    hint="the cluster has no quorum, or is overloaded: check with etcdctl endpoint status",
                ) from e
            raise self._translated(e, address) from e

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        """etcd's hash of that member's key space up to ``revision``; it scans the whole database.

        None when it is not to be had: not within ``timeout`` seconds, or the revision is compacted or not yet
        there. The log says which.
        """
        address = self._options.address(endpoint)
        try:
            answer = self._send(address, _HASH_KV, wire.HashKVRequest(revision=revision), timeout)
        except grpc.RpcError as e:
            if not is_deadline(e) and e.code() != _NO_SUCH_REVISION:
                raise self._translated(e, address) from e
            _log.warning(
                "etcd.hash_kv.unavailable", endpoint=str(address), revision=revision, reason=e.details()
            )
            return None
        return HashKV(
            hash=answer.hash,
            revision=answer.hash_revision or revision,
            compact_revision=answer.compact_revision,
        )

    def holds_prefix(self, endpoint: str, prefix: bytes) -> bool:
        """Whether that member has a live key that starts with ``prefix``; needs no quorum."""
        request = wire.RangeRequest(
            key=prefix or _FIRST_KEY,
            range_end=prefix_end(prefix),
            limit=1,
            serializable=True,
            count_only=True,
        )
        return self._call(self._options.address(endpoint), RANGE, request).count > 0

    def count(self, endpoint: str, start: bytes, end: bytes) -> int:
        """How many live keys that member has from ``start`` to before ``end``; needs no quorum."""
        request = wire.RangeRequest(key=start, range_end=end, serializable=True, count_only=True)
        return int(self._call(self._options.address(endpoint), RANGE, request).count)

    def entries(self, endpoint: str, start: bytes, limit: int) -> list[tuple[bytes, int]]:
        """At most ``limit`` keys that member has from ``start`` on, in order, with their values' sizes.

        Needs no quorum, and with authentication the right to read all keys.
        """
        request = wire.RangeRequest(key=start, range_end=_FIRST_KEY, limit=limit, serializable=True)
        answer = self._call(self._options.address(endpoint), RANGE, request)
        return [(bytes(one.key), len(one.value)) for one in answer.kvs]

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        """Every alarm raised in the cluster, as that endpoint knows them."""
        answer = self._call(self._options.address(endpoint), ALARM, wire.AlarmRequest())
        return tuple(Alarm(hex_id(one.memberID), wire.AlarmType.Name(one.alarm)) for one in answer.alarms)

    def requires_login(self, endpoint: str) -> bool:
        """Whether that member turns away a caller without user and password; a client certificate is shown.

        True when authentication is enabled, unless the certificate alone names a user who may read.
        """
        address = self._options.address(endpoint)
        request = wire.RangeRequest(key=_FIRST_KEY, limit=1, serializable=True, count_only=True)
        try:
            self._send_once(address, RANGE, request, (), None)
        except grpc.RpcError as e:
            if e.code() == _DENIED or _USER_MISSING in (e.details() or ""):
                return True
            raise self._translated(e, address) from e
        return False

    def snapshot(self, endpoint: str, limits: StreamLimits) -> SnapshotStream:
        """A snapshot of that member, begun with its first piece; needs no quorum, the root role with auth."""
        address = self._options.address(endpoint)

        def frames(patience: Callable[[], float]) -> Generator[memoryview, None, None]:
            try:
                yield from messages_of(
                    address,
                    _SNAPSHOT,
                    wire.SnapshotRequest().SerializeToString(),
                    tls=self._tls,
                    metadata=lambda: self._good_metadata(address),
                    connect_timeout=self._options.command_timeout,
                    patience=patience,
                )
            except grpc.RpcError as e:
                raise self._snapshot_error(e, address) from e

        return SnapshotStream(frames, str(address), limits)

    def _good_metadata(self, address: Address) -> Metadata:
        """A stream cannot be sent again with a new token, so a call that can goes first."""
        if self._tokens is not None:
            self._send(
                address,
                RANGE,
                wire.RangeRequest(key=_FIRST_KEY, limit=1, serializable=True, count_only=True),
            )
        return self._metadata(address)

    def _snapshot_error(self, error: grpc.RpcError, address: Address) -> EtcdGuardError:
        if error.code() == grpc.StatusCode.CANCELLED:
            return SnapshotFailed(
                "the member ended the stream", hint="check the member's log, or try another with --endpoint"
            )
        return self._translated(error, address)

    def _topology(self, address: Address) -> ClusterTopology:
        answer = self._call(address, _MEMBER_LIST, wire.MemberListRequest(linearizable=False))
        return ClusterTopology(hex_id(answer.header.cluster_id), tuple(map(_member, answer.members)))

    def _call(self, address: Address, method: Method[_Answer], request: Message) -> _Answer:
        try:
            return self._send(address, method, request)
        except grpc.RpcError as e:
            raise self._translated(e, address) from e

    def _send(
        self, address: Address, method: Method[_Answer], request: Message, timeout: float | None = None
    ) -> _Answer:
        """One call; sent once more when only the token was wrong. Raises grpc.RpcError."""
        metadata = self._metadata(address)
        try:
            return self._send_once(address, method, request, metadata, timeout)
        except grpc.RpcError as e:
            if self._tokens is None or not is_token_rejected(e):
                raise
            self._tokens.renew(metadata)
        return self._send_once(address, method, request, self._metadata(address), timeout)

    def _send_once(
        self,
        address: Address,
        method: Method[_Answer],
        request: Message,
        metadata: Metadata,
        timeout: float | None,
    ) -> _Answer:
        stub = self._endpoint(address).channel.unary_unary(
            method.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        answer: _Answer = stub(request, timeout=timeout or self._options.command_timeout, metadata=metadata)
        return answer

    def _metadata(self, address: Address) -> Metadata:
        return () if self._tokens is None else self._tokens.metadata(address)

    def _endpoint(self, address: Address) -> etcd3.Endpoint:
        with self._lock:
            if address not in self._endpoints:
                self._endpoints[address] = open_endpoint(address, self._options, self._tls)
            return self._endpoints[address]

    def _translated(self, error: grpc.RpcError, address: Address) -> EtcdGuardError:
        return translate(error, address, self._tls, self._options.dial_timeout)


def _member_status(endpoint: str, answer: wire.StatusResponse) -> MemberStatus:
    return MemberStatus(
        endpoint=endpoint,
        cluster_id=hex_id(answer.header.cluster_id),
        member_id=hex_id(answer.header.member_id),
        version=answer.version,
        storage_version=answer.storageVersion or None,
        db_size=answer.dbSize,
        db_size_in_use=answer.dbSizeInUse or None,
        db_size_quota=answer.dbSizeQuota or None,
        leader_id=hex_id(answer.leader),
        raft_term=answer.raftTerm,
        raft_index=answer.raftIndex,
        raft_applied_index=answer.raftAppliedIndex,
        is_learner=answer.isLearner,
        errors=tuple(answer.errors),
        revision=answer.header.revision,
    )


def _member(member: wire.Member) -> Member:
    return Member(
        id=hex_id(member.ID),
        name=member.name,
        peer_urls=tuple(member.peerURLs),
        client_urls=tuple(member.clientURLs),
        is_learner=member.isLearner,
    )


def prefix_end(prefix: bytes) -> bytes:
    """The first key after every key with that prefix; a zero byte means the end of the key space."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b"\0"
