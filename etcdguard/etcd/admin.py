"""A client that may also change the cluster: its members, single keys, and what maintenance needs."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from etcdguard.etcd.client import ALARM, RANGE, EtcdClient, Method
from etcdguard.etcd.faults import is_deadline
from etcdguard.etcd.source import Alarm
from etcdguard.etcd.wire import wire_pb2 as wire
from etcdguard.model import hex_id

__all__ = ["AdminClient"]

_MEMBER_ADD = Method("/etcdserverpb.Cluster/MemberAdd", wire.MemberAddResponse)
_MEMBER_REMOVE = Method("/etcdserverpb.Cluster/MemberRemove", wire.MemberRemoveResponse)
_MEMBER_PROMOTE = Method("/etcdserverpb.Cluster/MemberPromote", wire.MemberPromoteResponse)
_PUT = Method("/etcdserverpb.KV/Put", wire.PutResponse)
_DELETE = Method("/etcdserverpb.KV/DeleteRange", wire.DeleteRangeResponse)
_COMPACT = Method("/etcdserverpb.KV/Compact", wire.CompactionResponse)
_DEFRAGMENT = Method("/etcdserverpb.Maintenance/Defragment", wire.DefragmentResponse)
_MOVE_LEADER = Method("/etcdserverpb.Maintenance/MoveLeader", wire.MoveLeaderResponse)

_COMPACTED = "required revision has been compacted"


class AdminClient(EtcdClient):
    """EtcdClient with the calls that write. Each takes a quorum.

    ClusterUnhealthy when etcd refuses, which for members may pass: it wants every voter connected for 5 s
    before it changes them, and a learner caught up before it promotes it. An error does not always mean that
    nothing happened: the answer may have been lost.
    """

    def add_learner(self, endpoint: str, peer_urls: Sequence[str]) -> str:
        """Announce a new member without a vote; returns its id."""
        request = wire.MemberAddRequest(peerURLs=peer_urls, isLearner=True)
        answer = self._call(self._options.address(endpoint), _MEMBER_ADD, request)
        return hex_id(answer.member.ID)

    def remove_member(self, endpoint: str, member_id: str) -> None:
        """Take a member out of the cluster, for good: its id never comes back."""
        request = wire.MemberRemoveRequest(ID=int(member_id, 16))
        self._call(self._options.address(endpoint), _MEMBER_REMOVE, request)

    def promote_member(self, endpoint: str, member_id: str) -> None:
        """Give a learner its vote."""
        request = wire.MemberPromoteRequest(ID=int(member_id, 16))
        self._call(self._options.address(endpoint), _MEMBER_PROMOTE, request)

    def put(self, endpoint: str, key: bytes, value: bytes) -> None:
        """Write one key."""
        self._call(self._options.address(endpoint), _PUT, wire.PutRequest(key=key, value=value))

    def get(self, endpoint: str, key: bytes) -> bytes | None:
        """The value of one key by a linearizable read; None when there is none."""
        answer = self._call(self._options.address(endpoint), RANGE, wire.RangeRequest(key=key))
        return answer.kvs[0].value if answer.kvs else None

    def delete(self, endpoint: str, key: bytes) -> None:
        """Delete one key; an absent one is success."""
        self._call(self._options.address(endpoint), _DELETE, wire.DeleteRangeRequest(key=key))

    def defragment(self, endpoint: str, timeout: float) -> bool:
        """Have that member rewrite its database without the holes; it serves nothing meanwhile.

        False when it gave no answer within ``timeout`` seconds. etcd goes on all the same, and serves nothing
        until it is done; so may it after an error, when the connection broke.
        """
        address = self._options.address(endpoint)
        try:
            self._send(address, _DEFRAGMENT, wire.DefragmentRequest(), timeout)
        except grpc.RpcError as e:
            if is_deadline(e):
                return False
            raise self._translated(e, address) from e
        return True

    def move_leader(self, endpoint: str, target_id: str) -> None:
        """Have the leader, which must be at that endpoint, hand over to the voter ``target_id``."""
        request = wire.MoveLeaderRequest(targetID=int(target_id, 16))
        self._call(self._options.address(endpoint), _MOVE_LEADER, request)

    def compact(self, endpoint: str, revision: int, timeout: float) -> None:
        """Give up the history before ``revision`` on every member, and wait until that member has freed it.

        A revision that is compacted already is success.
        """
        address = self._options.address(endpoint)
        request = wire.CompactionRequest(revision=revision, physical=True)
        try:
            self._send(address, _COMPACT, request, timeout)
        except grpc.RpcError as e:
            if _COMPACTED not in (e.details() or ""):
                raise self._translated(e, address) from e

    def disarm(self, endpoint: str, alarm: Alarm) -> None:
        """Take an alarm back; whoever raised it may raise it again."""
        request = wire.AlarmRequest(
            action=wire.AlarmRequest.DEACTIVATE,
            memberID=int(alarm.member_id, 16),
            alarm=wire.AlarmType.Value(alarm.kind),
        )
        self._call(self._options.address(endpoint), ALARM, request)
