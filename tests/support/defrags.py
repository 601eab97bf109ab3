"""Defragmentation of real clusters: fragmented databases, a watched client, load on every member."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import grpc

from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.client import ALARM
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import LeaseLock, lock_key
from etcdguard.etcd.metrics import Scraper
from etcdguard.etcd.wire import wire_pb2 as wire
from etcdguard.maintenance.defrag.environment import Environment
from etcdguard.maintenance.defrag.facts import History, Policy
from etcdguard.maintenance.defrag.history import facts_of, read_history
from etcdguard.maintenance.defrag.observe import MemberObserver
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup
from etcdguard.maintenance.defrag.run import DefragJob
from etcdguard.maintenance.defrag.survey import Observer
from tests.support.load import NamedMembers, connect, fill
from tests.support.waiting import PLENTY, eventually

__all__ = [
    "Call",
    "EAGER",
    "STEADY",
    "Load",
    "Site",
    "WatchedClient",
    "fragment",
    "held_snapshot",
    "load",
]

EAGER = Policy(min_size=1, min_free=1, settle=0.2, leader_settle=0.2, patience=60.0)
"""Small databases are worth it, and waits are short."""

STEADY = ("--heartbeat-interval=200", "--election-timeout=4000")
"""etcd's flags against elections by chance on a loaded machine: a run rightly ends at one."""


class SystemClock:
    """The machine's."""

    def now(self) -> datetime:
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        return time.monotonic()


def fragment(
    cluster: NamedMembers, client: AdminClient, size: int = 6_000_000, *, in_use: float = 0.25
) -> None:
    """Leave every member with about that many free bytes; of its database less than ``in_use`` is in use."""
    fill(cluster, size, prefix="/fragments/")
    with connect(cluster) as etcd3_client:
        etcd3_client.delete_prefix("/fragments/")
    for url in cluster.client_urls:
        client.linearizable_read(url)
    client.compact(cluster.client_urls[0], client.status(cluster.client_urls[0]).revision, PLENTY)

    def freed() -> bool:
        client.put(cluster.client_urls[0], b"/poke", b"")  # etcd counts its free pages when it commits
        sizes = [client.status(url) for url in cluster.client_urls]
        return all(
            (one.db_size_in_use or 0) < one.db_size * in_use and one.db_size > size / 2 for one in sizes
        )

    eventually(freed, "every member has freed its pages")


@dataclass(frozen=True)
class Call:
    """One call that changes something: its name, where it went, and when, by the monotonic clock."""

    name: str
    endpoint: str
    began: float
    ended: float


class WatchedClient(AdminClient):
    """Remembers what it was asked to do; ``after`` is called when a member has been defragmented."""

    def __init__(self, options: ConnectionOptions) -> None:
        super().__init__(options)
        self.calls: list[Call] = []
        self.after: Callable[[], object] = lambda: None

    def endpoints_of(self, name: str) -> list[str]:
        return [one.endpoint for one in self.calls if one.name == name]

    def defragment(self, endpoint: str, timeout: float) -> bool:
        with self._noted("defragment", endpoint):
            answered = super().defragment(endpoint, timeout)
        self.after()
        return answered

    def move_leader(self, endpoint: str, target_id: str) -> None:
        with self._noted("move_leader", endpoint):
            super().move_leader(endpoint, target_id)

    def raise_alarm(self, endpoint: str, member_id: str, kind: str) -> None:
        """What etcd does by itself when it finds a reason."""
        request = wire.AlarmRequest(memberID=int(member_id, 16), alarm=wire.AlarmType.Value(kind))
        request.MergeFromString(b"\x08\x01")  # action: ACTIVATE, which etcdguard itself never says
        self._call(self._options.address(endpoint), ALARM, request)

    @contextmanager
    def _noted(self, name: str, endpoint: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.calls.append(Call(name, endpoint, began, time.monotonic()))


@dataclass
class Site:
    """A cluster, the client that is watched, and what runs on it leave behind."""

    cluster: LocalCluster
    options: ConnectionOptions
    client: WatchedClient
    lock: LeaseLock
    events: list[Mapping[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    backups: int = 0

    @classmethod
    @contextmanager
    def on(cls, cluster: LocalCluster, command_timeout: float = 20.0) -> Iterator[Site]:
        """Patient with a machine that stands still; less where a member that never answers is waited for."""
        clock = SystemClock()
        options = ConnectionOptions(cluster.client_urls, command_timeout=command_timeout)
        with (
            WatchedClient(options) as client,
            LeaseLock.on(options, lock_key("prod", "maintenance"), "test", clock.now) as lock,
        ):
            yield cls(cluster, options, client, lock)

    def job(
        self,
        policy: Policy = EAGER,
        *,
        observe: Observer | None = None,
        disk_free: int | None = None,
        shield: Callable[[str, float], AbstractContextManager[None]] = lambda _name, _timeout: nullcontext(),
        sleep: Callable[[float], None] = time.sleep,
    ) -> DefragJob:
        clock = SystemClock()
        scraper = Scraper(self.options, (), clock.now)
        return DefragJob(
            Environment(
                cluster=self.client,
                lock=self.lock,
                observe=observe
                or MemberObserver(
                    scraper, quota=None, disk_free=lambda _member: disk_free, separate_pages=False
                ),
                history=self.history,
                fresh_backup=lambda _cluster_id: None,
                take_backup=self._take_backup,
                record=self._record,
                shield=shield,
                clock=clock,
                sleep=sleep,
                tell=self.told.append,
            ),
            policy,
        )

    def history(self, cluster_id: str) -> History:
        return read_history(self.events, cluster_id)

    def sizes(self) -> list[int]:
        return [self.client.status(url).db_size for url in self.cluster.client_urls]

    def leader(self) -> str:
        """The leader's URL."""
        (found,) = (url for url in self.cluster.client_urls if self.client.status(url).is_leader)
        return found

    def _take_backup(self) -> FreshBackup:
        assert self.lock.held() or self.client.alarms(self.cluster.client_urls[0])
        self.backups += 1
        return FreshBackup(f"backup-{self.backups}", datetime.now(timezone.utc), "data")

    def _record(self, report: DefragReport) -> None:
        self.events.append({"at": datetime.now(timezone.utc).isoformat(), **facts_of(report)})


@contextmanager
def held_snapshot(url: str) -> Iterator[Any]:
    """A snapshot of that member that nobody reads: it stays open as long as the block, or until cancelled."""
    options = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536)]  # else it is read ahead
    with grpc.insecure_channel(url.removeprefix("http://"), options) as channel:
        call = channel.unary_stream("/etcdserverpb.Maintenance/Snapshot")(b"")
        try:
            next(call)
            yield call
        finally:
            call.cancel()


@dataclass
class Load:
    """Requests of one client that stays with one member, and those that failed."""

    endpoint: str
    answered: int = 0
    failed: list[tuple[float, float, str]] = field(default_factory=list)
    """When each began and ended, and why."""


@contextmanager
def load(cluster: LocalCluster) -> Iterator[list[Load]]:
    """A writer and reader on every member while the block runs, one request at a time."""
    loads = [Load(url) for url in cluster.client_urls]
    stop = threading.Event()
    threads = [
        threading.Thread(target=_keep_asking, args=(cluster, name, one, stop))
        for name, one in zip(cluster.names, loads, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yield loads
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _keep_asking(cluster: LocalCluster, name: str, one: Load, stop: threading.Event) -> None:
    options = ConnectionOptions((cluster.client_url(name),), command_timeout=20)
    with AdminClient(options) as client:
        while not stop.is_set():
            began = time.monotonic()
            try:
                client.put(one.endpoint, f"/load/{name}".encode(), str(one.answered).encode())
                assert client.get(one.endpoint, f"/load/{name}".encode()) == str(one.answered).encode()
            except Exception as error:  # noqa: BLE001  (the test looks at all of them)
                one.failed.append((began, time.monotonic(), repr(error)))
            else:
                one.answered += 1
