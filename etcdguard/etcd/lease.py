"""The calls that leases and the keys under them take, and the marks that leaders leave each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import grpc
from etcd3 import etcdrpc

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError
from etcdguard.etcd.client import EtcdClient, Method
from etcdguard.etcd.connection import Address, ConnectionOptions
from etcdguard.etcd.faults import is_token_rejected

__all__ = ["LEASE_SECONDS", "LeaseClient", "SlotMarks", "impatient"]

LEASE_SECONDS = 15

_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", etcdrpc.LeaseGrantResponse)
_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", etcdrpc.LeaseRevokeResponse)
_PUT = Method("/etcdserverpb.KV/Put", etcdrpc.PutResponse)
_TXN = Method("/etcdserverpb.KV/Txn", etcdrpc.TxnResponse)
_KEEP_ALIVE = "/etcdserverpb.Lease/LeaseKeepAlive"

_Answer = TypeVar("_Answer")


def impatient(options: ConnectionOptions, lease_seconds: int) -> ConnectionOptions:
    """With so little patience for one endpoint that a lease lives long enough to ask another."""
    patience = lease_seconds / 6
    return replace(
        options,
        command_timeout=min(options.command_timeout, patience),
        dial_timeout=min(options.dial_timeout, patience / 2),
    )


class LeaseClient(EtcdClient):
    """``lock.LockKeys`` of a real cluster.

    Each call goes to the endpoint that answered last, then to the others. Raises the first endpoint's error
    when none answers. ClusterUnhealthy is also what etcd's NOSPACE alarm comes as: a cluster out of space
    grants no lease, though it renews those it has.
    """

    def __init__(self, options: ConnectionOptions) -> None:
        super().__init__(options)
        self._preferred = 0

    def grant(self, seconds: int) -> tuple[int, int]:
        """See LockKeys."""
        request = etcdrpc.LeaseGrantRequest(TTL=seconds)
        answer = self._somewhere(lambda address: self._call(address, _GRANT, request))
        return int(answer.ID), int(answer.TTL)

    def keep_alive(self, lease: int) -> int:
        """See LockKeys."""
        return self._somewhere(lambda address: self._renew(address, lease))

    def revoke(self, lease: int) -> None:
        """See LockKeys."""

        def revoke(address: Address) -> None:
            try:
                self._send(address, _REVOKE, etcdrpc.LeaseRevokeRequest(ID=lease))
            except grpc.RpcError as e:
                if e.code() != grpc.StatusCode.NOT_FOUND:
                    raise self._translated(e, address) from e

        self._somewhere(revoke)

    def claim(self, key: bytes, value: bytes, lease: int) -> bytes | None:
        """See LockKeys. May be repeated: a key under this very lease is ours already."""
        absent = etcdrpc.Compare(
            result=etcdrpc.Compare.EQUAL, target=etcdrpc.Compare.CREATE, key=key, create_revision=0
        )
        read = etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=key))
        put = etcdrpc.RequestOp(request_put=etcdrpc.PutRequest(key=key, value=value, lease=lease))
        request = etcdrpc.TxnRequest(compare=[absent], success=[put], failure=[read])
        answer = self._somewhere(lambda address: self._call(address, _TXN, request))
        if answer.succeeded:
            return None
        there = answer.responses[0].response_range.kvs[0]
        return None if there.lease == lease else bytes(there.value)

    def look(self, key: bytes) -> bytes | None:
        """See LockKeys."""
        read = etcdrpc.RequestOp(request_range=etcdrpc.RangeRequest(key=key))
        request = etcdrpc.TxnRequest(success=[read])
        answer = self._somewhere(lambda address: self._call(address, _TXN, request))
        found = answer.responses[0].response_range.kvs
        return bytes(found[0].value) if found else None

    def write(self, key: bytes, value: bytes) -> None:
        """Put a key that no lease takes away."""
        request = etcdrpc.PutRequest(key=key, value=value)
        self._somewhere(lambda address: self._call(address, _PUT, request))

    def _renew(self, address: Address, lease: int) -> int:
        metadata = self._metadata(address)
        try:
            try:
                return self._renew_once(address, lease, metadata)
            except grpc.RpcError as e:
                if self._tokens is None or not is_token_rejected(e):
                    raise
                self._tokens.renew(metadata)
            return self._renew_once(address, lease, self._metadata(address))
        except grpc.RpcError as e:
            raise self._translated(e, address) from e

    def _renew_once(self, address: Address, lease: int, metadata: Any) -> int:
        stub = self._endpoint(address).channel.stream_stream(
            _KEEP_ALIVE,
            request_serializer=etcdrpc.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=etcdrpc.LeaseKeepAliveResponse.FromString,
        )
        request = etcdrpc.LeaseKeepAliveRequest(ID=lease)
        call = stub(iter([request]), timeout=self._options.command_timeout, metadata=metadata)
        try:
            for answer in call:
                return int(answer.TTL)
        finally:
            call.cancel()
        raise ClusterUnhealthy(
            f"{address}: etcd ended the renewal of a lease without an answer",
            hint="check the member with etcdctl endpoint status",
        )

    def _somewhere(self, ask: Callable[[Address], _Answer]) -> _Answer:
        failure: EtcdGuardError | None = None
        addresses = self._options.addresses
        first = self._preferred
        for step in range(len(addresses)):
            index = (first + step) % len(addresses)
            try:
                answer = ask(addresses[index])
            except EtcdGuardError as e:
                failure = failure or e
            else:
                self._preferred = index
                return answer
        assert failure is not None  # noqa: S101  (there is at least one endpoint)
        raise failure


class SlotMarks:
    """The newest slot of each job that a leader finished, for the leaders after it: one key a job."""

    def __init__(self, options: ConnectionOptions, cluster: str) -> None:
        self._client = LeaseClient(impatient(options, LEASE_SECONDS))
        self._prefix = f"/etcdguard/{cluster}/done/"

    def read(self, job: str) -> str | None:
        """The slot's id, or None."""
        found = self._client.look(f"{self._prefix}{job}".encode())
        return None if found is None else found.decode(errors="replace")

    def write(self, job: str, slot: str) -> None:
        """Remember that slot."""
        self._client.write(f"{self._prefix}{job}".encode(), slot.encode())

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
