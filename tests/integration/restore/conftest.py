"""A real cluster with a history, a snapshot of it by etcdctl, and what it takes to restore that."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from etcdguard.catalog import Backup
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.tools import Tool
from etcdguard.model import Manifest, Member, hex_id
from etcdguard.restore.by_host import ByHost, Elsewhere
from etcdguard.restore.crew import Crew, NoWatcher, Orders
from etcdguard.restore.environment import Environment, Overrides
from etcdguard.restore.hosts import LocalHost, Site
from etcdguard.restore.node import Node
from etcdguard.restore.orchestrate import After
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices, MemberSpec, make_plan
from etcdguard.restore.result import HostResult
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import History, write_history
from tests.support.restores import NOW, SteppingClock, in_pieces, make_manifest, wait_applied


@dataclass
class Scene:
    """A cluster, its snapshot, and a way to plan and run a restore of it on this machine."""

    cluster: LocalCluster
    programs: EtcdPrograms
    history: History
    snapshot: bytes
    manifest: Manifest
    hashes: dict[str, tuple[int, int]]
    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def etcdctl(self) -> Etcdctl:
        return Etcdctl(self.programs.etcdctl, self.cluster)

    def plan(
        self,
        tool: Tool | None = None,
        *,
        manifest: Manifest | None = None,
        wal_dirs: Mapping[str, str] | None = None,
        bump: int | None = None,
        no_bump: bool = False,
    ) -> RestorePlan:
        cluster = self.cluster
        specs = [
            MemberSpec(
                name,
                (cluster.peer_url(name),),
                (cluster.client_url(name),),
                data_dir=str(cluster.data_dir(name)),
            )
            for name in cluster.names
        ]
        choices = Choices(
            here=frozenset(cluster.names),
            wal_dirs=wal_dirs or {},
            bump=bump,
            mark_compacted=bump is not None,
            no_bump=no_bump,
        )
        return make_plan(
            manifest or self.manifest,
            specs,
            choices,
            tool or self.programs.restore,
            node="here",
            now=NOW,
            token_hex=secrets.token_hex,
        )

    def run(
        self,
        plan: RestorePlan,
        *names: str,
        overrides: Overrides | None = None,
        fetch: Callable[[], Iterator[bytes]] | None = None,
        tool: Tool | None = None,
    ) -> HostResult:
        """As one host that has these members, with its journals to itself."""
        names, clock = names or self.cluster.names, SteppingClock()
        state_dir = self.cluster.base.with_name(f"{self.cluster.base.name}-state-{'-'.join(names)}")
        with EtcdClient(ConnectionOptions(endpoints=self.cluster.client_urls)) as client:
            environment = Environment(
                backup=Backup(self.manifest, b"", "valid", "sha256:signer"),
                fetch=fetch or (lambda: in_pieces(self.snapshot)),
                tool=tool or self.programs.restore,
                endpoints=(),
                linearizable_read=client.linearizable_read,
            )
            node = Node("1", state_dir, clock, lambda *_: nullcontext(environment), lambda *_: None)
            site = Site(LocalHost("here", node), names)
            crew = Crew(plan, (site,), "1", clock, NoWatcher(), Orders(overrides or Overrides()))
            after = After(dict, self.events.append)
            elsewhere = Elsewhere(lambda _: None, lambda _: False)
            return ByHost(plan, crew, state_dir, clock, NoWatcher(), after, elsewhere).run("held")


@pytest.fixture
def scene(cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, tmp_path: Path) -> Scene:
    cluster = cluster_factory()
    history = write_history(cluster)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    wait_applied(etcdctl, history.revision)
    hashes = etcdctl.hash_kv(history.revision)
    status = etcdctl.json("endpoint", "status")[0]["Status"]
    file = tmp_path / "snapshot.db"
    save = [
        str(etcd_binaries.etcdctl.path),
        f"--endpoints={cluster.client_urls[0]}",
        "snapshot",
        "save",
        str(file),
    ]
    subprocess.run(save, env={}, check=True, capture_output=True)
    snapshot = file.read_bytes()
    members = tuple(
        Member(
            id="1", name=name, peer_urls=(cluster.peer_url(name),), client_urls=(cluster.client_url(name),)
        )
        for name in cluster.names
    )
    manifest = make_manifest(
        members,
        etcd_version=etcd_binaries.version,
        cluster_id=hex_id(status["header"]["cluster_id"]),
        revision=history.revision,
        db_bytes=len(snapshot) - 32,
        sha256=snapshot[-32:].hex(),
    )
    return Scene(cluster, etcd_binaries, history, snapshot, manifest, hashes)
