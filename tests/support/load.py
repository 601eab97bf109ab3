"""Data for test clusters: a history with everything in it, a write load, and databases of benchmark size."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

import etcd3
import etcd3.exceptions
import grpc

from tests.support.etcdctl import Credentials, Reachable

__all__ = [
    "History",
    "NamedMembers",
    "WriteLoad",
    "connect",
    "fill",
    "json_like",
    "write_history",
    "write_load",
]

_TXN_OPS = 100  # etcd allows 128 operations in a transaction
_TXN_BYTES = 1_000_000  # and 1.5 MiB in a request
_CALL_SECONDS = 60
_FAILOVER_SECONDS = 5  # a write load goes on with the next member
_FIRST_PUT_SECONDS = 60


class NamedMembers(Reachable, Protocol):
    """A cluster whose members have names: etcd.local.LocalCluster, or one that runs elsewhere."""

    @property
    def names(self) -> tuple[str, ...]:
        """In order."""

    def client_url(self, name: str) -> str:
        """Where clients reach that member."""


def connect(
    cluster: NamedMembers,
    name: str | None = None,
    credentials: Credentials | None = None,
    *,
    call_seconds: int = _CALL_SECONDS,
) -> Any:
    """An ``etcd3`` client of one member (default: the first)."""
    address = urlsplit(cluster.client_url(name or cluster.names[0]))
    tls = cluster.tls
    return etcd3.client(
        host=address.hostname,
        port=address.port,
        timeout=call_seconds,
        ca_cert=None if tls is None else str(tls.ca),
        cert_cert=None if tls is None else str(tls.client_cert),
        cert_key=None if tls is None else str(tls.client_key),
        user=None if credentials is None else credentials.user,
        password=None if credentials is None else credentials.password,
    )


@dataclass(frozen=True)
class History:
    """What ``write_history`` left: the live keys, the deleted ones, the leased ones, and the revisions."""

    live: dict[str, str]
    deleted: tuple[str, ...]
    leased: tuple[str, ...]
    lease_id: int
    compacted_at: int
    revision: int


def write_history(
    cluster: NamedMembers,
    *,
    prefix: str = "/registry/pods/",
    keys: int = 200,
    credentials: Credentials | None = None,
) -> History:
    """Writes, overwrites, deletes, an attached lease of an hour, a compaction, and writes after it."""
    values = json_like(600, seed=keys)
    with connect(cluster, credentials=credentials) as client:
        names = [f"{prefix}default/item-{number:05d}" for number in range(keys)]
        live = {name: next(values) for name in names}
        _put_all(client, live)
        deleted = tuple(names[::10])
        for name in deleted:
            client.delete(name)
            del live[name]
        changed = {name: next(values) for name in names[1::3] if name in live}
        middle = _put_all(client, changed)
        live |= changed
        lease = client.lease(3600)
        leased = tuple(f"{prefix}leases/holder-{number}" for number in range(3))
        for name in leased:
            live[name] = next(values)
            client.put(name, live[name], lease=lease)
        client.compact(middle - 1)
        again = {name: next(values) for name in names[2::7] if name in live}
        revision = _put_all(client, again)
        live |= again
    return History(live, deleted, leased, lease.id, middle - 1, revision)


@dataclass
class WriteLoad:
    """Puts that a cluster acknowledged: key to value. Read it after the load has ended."""

    prefix: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    failures: int = 0
    """Puts without an acknowledgement; etcd may have applied them all the same."""


@contextmanager
def write_load(
    cluster: NamedMembers, *, prefix: str = "/load/", credentials: Credentials | None = None
) -> Iterator[WriteLoad]:
    """Write small keys without pause while the block runs, going to the next member when one fails.

    The block begins once a first put is acknowledged: a load that comes to nothing before would be none.
    """
    load = WriteLoad(prefix)
    stop = threading.Event()
    thread = threading.Thread(
        target=_keep_writing, args=(cluster, credentials, load, stop), name="write-load"
    )
    thread.start()
    try:
        deadline = time.monotonic() + _FIRST_PUT_SECONDS
        while not load.acknowledged:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no put was acknowledged in {_FIRST_PUT_SECONDS} s")
            time.sleep(0.01)
        yield load
    finally:
        stop.set()
        thread.join()


def _keep_writing(
    cluster: NamedMembers, credentials: Credentials | None, load: WriteLoad, stop: threading.Event
) -> None:
    number = 0
    while not stop.is_set():
        for name in cluster.names:
            try:
                with connect(cluster, name, credentials, call_seconds=_FAILOVER_SECONDS) as client:
                    while not stop.is_set():
                        number += 1
                        key, value = f"{load.prefix}{number:08d}", f"value-{number}"
                        client.put(key, value)
                        load.acknowledged[key] = value
            except (etcd3.exceptions.Etcd3Exception, grpc.RpcError):
                load.failures += 1
                stop.wait(0.05)  # that member is down or has no leader: do not spin


def fill(
    cluster: NamedMembers, total_bytes: int, *, value_bytes: int = 10_000, prefix: str = "/registry/bulk/"
) -> int:
    """Write about ``total_bytes`` of compressible values under distinct keys; returns the revision."""
    values = json_like(value_bytes, seed=total_bytes)
    revision, batch, size = 0, {}, 0
    with connect(cluster) as client:
        for number in range(max(1, total_bytes // value_bytes)):
            batch[f"{prefix}{number:08d}"] = next(values)
            size += value_bytes
            if size + value_bytes > _TXN_BYTES:
                revision, batch, size = _put_all(client, batch), {}, 0
        return _put_all(client, batch) if batch else revision


def json_like(value_bytes: int, *, seed: int) -> Iterator[str]:
    """Endless Kubernetes-looking values of exactly that many bytes; zstd shrinks them about six times."""
    source = random.Random(seed)
    while True:
        parts: list[str] = []
        length = 0
        while length < value_bytes:
            part = _RECORD % tuple(source.randbytes(size).hex() for size in (16, 32, 32, 12))
            parts.append(part)
            length += len(part)
        yield "".join(parts)[:value_bytes]


_RECORD = (
    '{"metadata":{"namespace":"production","uid":"%s","labels":{"app.kubernetes.io/name":"checkout"},'
    '"annotations":{"checksum/config":"%s"}},'
    '"spec":{"containers":[{"image":"registry.k8s.io/checkout@sha256:%s","imagePullPolicy":"IfNotPresent",'
    '"terminationMessagePath":"/dev/termination-log"}],"restartPolicy":"Always","nodeName":"worker-%s"},'
    '"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}\n'
)


def _put_all(client: Any, pairs: dict[str, str]) -> int:
    """Put them in as few transactions as etcd's limits allow; returns the revision after the last."""
    items = list(pairs.items())
    for start in range(0, len(items), _TXN_OPS):
        puts = [client.transactions.put(key, value) for key, value in items[start : start + _TXN_OPS]]
        client.transaction(compare=[], success=puts, failure=[])
    return int(client.get_response(items[-1][0]).header.revision)
