"""The snapshot stream: from real members of every version, and from servers that lie."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from etcdguard.errors import Corruption, EtcdUnreachable, SnapshotFailed
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.source import StreamLimits
from etcdguard.etcd.stream import TRAILER_BYTES, TrailerCheck
from etcdguard.progress import NoProgress
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import Node, catalog_of, database, plaintext, violations
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fake_source import FakeSource
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill, write_history, write_load
from tests.support.waiting import PLENTY, eventually

FILL = 64_000_000  # more than the reader, gRPC and the sockets hold together


def save(client: EtcdClient, url: str, path: Path, limits: StreamLimits | None = None) -> tuple[int, str]:
    check = TrailerCheck()
    with client.snapshot(url, limits or StreamLimits()) as pieces, path.open("wb") as out:
        for piece in pieces:
            check.update(piece)
            out.write(piece)
        assert pieces.announced_bytes == out.tell()
    return check.finish()


@each_etcd_version
def test_etcds_own_tool_accepts_what_was_streamed_under_load(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory, tmp_path: Path
) -> None:
    cluster = cluster_factory()
    history = write_history(cluster)
    snapshot = tmp_path / "snapshot.db"
    with EtcdClient(ConnectionOptions(cluster.client_urls)) as client, write_load(cluster) as load:
        eventually(lambda: len(load.acknowledged) > 50, "there is load")
        for url in client.endpoints:
            db_bytes, digest = save(client, url, snapshot)
            assert snapshot.stat().st_size == db_bytes + TRAILER_BYTES
            assert snapshot.read_bytes()[-TRAILER_BYTES:].hex() == digest
            answer = subprocess.run(
                [str(etcd_binaries.restore.path), "snapshot", "status", str(snapshot), "-w", "json"],
                env={"ETCDCTL_API": "3"},
                capture_output=True,
                check=True,
            )
            assert b'"revision":' in answer.stdout
    assert Etcdctl(etcd_binaries.etcdctl, cluster).revision() > history.revision


def test_a_member_that_dies_in_the_middle(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(names=("alone",))
    fill(cluster, FILL)
    with EtcdClient(ConnectionOptions(cluster.client_urls)) as client:
        with client.snapshot(cluster.client_urls[0], StreamLimits()) as pieces:
            rest = iter(pieces)
            next(rest)
            cluster.kill("alone")
            with pytest.raises(
                SnapshotFailed, match=r"the snapshot failed: .* \(after \d+ bytes\)"
            ) as raised:
                list(rest)
        assert "\n" not in raised.value.message
        with (
            client.snapshot(cluster.client_urls[0], StreamLimits()) as pieces,
            pytest.raises(EtcdUnreachable, match="connection refused"),
        ):
            list(pieces)


class Assassin(NoProgress):
    """Kills a member when the first of its bytes have come."""

    def __init__(self, cluster: LocalCluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    def advance(self, count: int) -> None:
        del count
        if self._cluster.pid(self._name) is not None:
            self._cluster.kill(self._name)


def test_a_backup_whose_member_dies_leaves_nothing_and_the_next_takes_another(
    cluster_factory: ClusterFactory, tmp_path: Path
) -> None:
    cluster = cluster_factory()
    fill(cluster, FILL)
    url, name = cluster.client_urls[0], cluster.names[0]
    node, store = Node(tmp_path / "spool", options={"endpoint": url}), MemoryStore("one")
    with EtcdClient(ConnectionOptions(cluster.client_urls)) as client:
        with pytest.raises(SnapshotFailed) as raised:
            node.job(client, store, progress=Assassin(cluster, name)).run()
        assert raised.value.exit_code == 2
        assert list(store.list("")) == []
        assert node.spool.entries() == []
        node.options = {}
        cluster.wait_healthy(names=cluster.names[1:])
        node.run(client, store)
    (backup,) = catalog_of(store).list().backups
    assert backup.manifest.cluster.member_name != name
    assert len(plaintext(store, backup.manifest)) > FILL


def test_the_limits_hold_against_a_real_member(cluster_factory: ClusterFactory, tmp_path: Path) -> None:
    cluster = cluster_factory(names=("alone",))
    fill(cluster, FILL)
    url, path = cluster.client_urls[0], tmp_path / "snapshot.db"
    with EtcdClient(ConnectionOptions(cluster.client_urls)) as client:
        with pytest.raises(SnapshotFailed, match="the limit is 1000000"):
            save(client, url, path, StreamLimits(max_bytes=1_000_000))
        with pytest.raises(SnapshotFailed, match=r"not complete after 0\.02 s"):
            save(client, url, path, StreamLimits(deadline=0.02))
        db_bytes, _ = save(client, url, path)  # the failures left nothing behind that stands in the way
        assert db_bytes >= FILL


MAX_BYTES = 50_000_000
DATABASE = database(800)
TRAILER = hashlib.sha256(DATABASE).digest()


def message(blob: bytes, remaining: int = 0) -> bytes:
    """A SnapshotResponse."""
    out = b"\x10" + varint(remaining) if remaining else b""
    return out + (b"\x1a" + varint(len(blob)) + blob if blob else b"")


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


Script = Callable[[Any], Iterator[bytes]]


def limits_for(script: Script) -> StreamLimits:
    """Short only for those that are silent."""
    silent = script in (stalls, never_begins)
    return StreamLimits(stall_timeout=10 if silent else 60, max_bytes=MAX_BYTES)


@contextmanager
def lying_server(script: Script) -> Iterator[str]:
    """A gRPC server whose Snapshot sends whatever ``script`` yields."""

    def serve(_request: bytes, context: Any) -> Iterator[bytes]:
        return script(context)

    handler = grpc.method_handlers_generic_handler(
        "etcdserverpb.Maintenance", {"Snapshot": grpc.unary_stream_rpc_method_handler(serve)}
    )
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def read_from(script: Script, limits: StreamLimits) -> tuple[int, str]:
    check = TrailerCheck()
    with lying_server(script) as url, EtcdClient(ConnectionOptions((url,))) as client:
        with client.snapshot(url, limits) as pieces:
            for piece in pieces:
                check.update(piece)
        return check.finish()


def honest(_: Any) -> Iterator[bytes]:
    half = len(DATABASE) // 2
    yield message(DATABASE[:half], half)
    yield message(DATABASE[half:])
    yield message(TRAILER)


def bad_trailer(_: Any) -> Iterator[bytes]:
    yield message(DATABASE)
    yield message(bytes(TRAILER_BYTES))


def no_trailer(_: Any) -> Iterator[bytes]:
    yield message(DATABASE)


def ends_early(_: Any) -> Iterator[bytes]:
    yield message(DATABASE, 1_000_000)


def more_than_announced(_: Any) -> Iterator[bytes]:
    yield message(DATABASE, 512)
    yield message(DATABASE)


def ten_times_announced(_: Any) -> Iterator[bytes]:
    yield message(DATABASE, len(DATABASE))
    for _ in range(9):
        yield message(DATABASE)


def endless_and_never_less_to_come(_: Any) -> Iterator[bytes]:
    while True:
        yield message(bytes(1024 * 1024), 1 << 50)


def endless(_: Any) -> Iterator[bytes]:
    yield message(DATABASE, 10_000_000)
    while True:
        yield message(bytes(32 * 1024), 10_000_000)


def endless_empty(_: Any) -> Iterator[bytes]:
    while True:
        yield message(b"", 4096)


def stalls(context: Any) -> Iterator[bytes]:
    yield message(DATABASE, 1_000_000)
    while context.is_active():
        time.sleep(0.05)


def never_begins(context: Any) -> Iterator[bytes]:
    while context.is_active():
        time.sleep(0.05)
    yield from ()


def breaks_off(context: Any) -> Iterator[bytes]:
    yield message(DATABASE, 1_000_000)
    context.abort(grpc.StatusCode.UNKNOWN, "the disk is gone\nsecond line")


def garbage(_: Any) -> Iterator[bytes]:
    yield b"\x1b\xff\xff"


def test_the_server_used_here_can_also_be_honest() -> None:
    assert read_from(honest, StreamLimits()) == (len(DATABASE), TRAILER.hex())


LIES = [
    (bad_trailer, Corruption, "does not match its sha256 trailer"),
    (no_trailer, SnapshotFailed, "ended early"),
    (ends_early, SnapshotFailed, "ended early"),
    (more_than_announced, SnapshotFailed, "more than the announced"),
    (ten_times_announced, SnapshotFailed, "more than the announced"),
    (endless, SnapshotFailed, "more than the announced"),
    (endless_and_never_less_to_come, SnapshotFailed, "the limit is"),
    (endless_empty, SnapshotFailed, "messages are empty"),
    (stalls, SnapshotFailed, rf"stalled: no data for 10 s \(after {len(DATABASE)} bytes\)"),
    (never_begins, SnapshotFailed, "stalled: no data for 10 s$"),
    (breaks_off, SnapshotFailed, rf"the disk is gone \(after {len(DATABASE)} bytes\)"),
    (garbage, SnapshotFailed, "malformed"),
]
each_lie = pytest.mark.parametrize(("script", "error", "why"), LIES, ids=[one[0].__name__ for one in LIES])


@each_lie
def test_lies_and_faults_are_found_in_bounded_time(
    script: Script, error: type[EtcdUnreachable | Corruption], why: str
) -> None:
    started = time.monotonic()
    with pytest.raises(error, match=why) as raised:
        read_from(script, limits_for(script))
    assert time.monotonic() - started < PLENTY
    assert type(raised.value) is error
    assert raised.value.hint
    assert "\n" not in raised.value.message


class LyingSource(FakeSource):
    """A cluster whose members say all is well, and whose snapshots come from a server that lies."""

    def __init__(self, client: EtcdClient, script: Script) -> None:
        super().__init__(DATABASE)
        self._client = client
        self._limits = limits_for(script)

    def snapshot(self, endpoint: str, limits: StreamLimits) -> Any:
        """The server's, whatever the endpoint."""
        (url,) = self._client.endpoints
        return self._client.snapshot(url, self._limits)


@each_lie
def test_nothing_of_a_lie_is_shipped_or_kept(
    script: Script, error: type[EtcdUnreachable | Corruption], why: str, tmp_path: Path
) -> None:
    store, node = MemoryStore("one"), Node(tmp_path / "spool")
    node.backup(9, store)
    before = dict(contents(store))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        lying_server(script) as url,
        EtcdClient(ConnectionOptions((url,))) as client,
        pytest.raises(error, match=why) as raised,
    ):
        node.run(LyingSource(client, script), store)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024
    assert grown < 3 * MAX_BYTES
    assert raised.value.exit_code == (13 if error is Corruption else 2)
    assert dict(contents(store)) == before
    assert node.spool.entries() == []
    node.backup(10, store)
    assert violations(store) == []


def contents(store: MemoryStore) -> Iterator[tuple[str, bytes]]:
    for info in store.list(""):
        yield info.key, b"".join(store.get(info.key))
