"""The demo as a plain list of steps, each by the very code behind the command of that name."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from etcdguard import init
from etcdguard.app import App
from etcdguard.app_backup import backup_job
from etcdguard.app_node import node
from etcdguard.app_restore import orchestrator
from etcdguard.catalog import Backup, Catalog
from etcdguard.config import load
from etcdguard.demo import proof
from etcdguard.demo.data import PREFIX, Contents, History, read_contents, write_history, write_late
from etcdguard.demo.gateway import Gateway
from etcdguard.demo.proof import Proof
from etcdguard.errors import Corruption, PartialFailure
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.local import LocalCluster
from etcdguard.interrupts import Interrupts
from etcdguard.progress import NoProgress
from etcdguard.restore.crew import NoWatcher, Orders
from etcdguard.restore.hosts import LocalHost, Site
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices, make_plan
from etcdguard.restore.programs import Programs
from etcdguard.restore.services import Patience
from etcdguard.storage.durable import remove_tree

__all__ = ["CONFIG", "Step", "Story"]

CONFIG = "config.yaml"

_CLUSTER_NAME = "demo"
_HASH_SECONDS = 10.0
_SETTLED_SECONDS = 15.0


@dataclass(frozen=True)
class Step:
    """``doing`` says what is about to be done; ``do`` does it and says what came of it, one line each."""

    name: str
    doing: str
    do: Callable[[], str]


class Story:
    """One run in one folder; every step leaves behind what the later ones need."""

    app: App
    history: History
    before: Contents
    catalog: Catalog
    backup: Backup
    late: str
    plan: RestorePlan
    proofs: tuple[Proof, ...] = ()

    def __init__(
        self, folder: Path, programs: Programs, cluster: LocalCluster, interrupts: Interrupts
    ) -> None:
        self._folder = folder
        self._programs = programs
        self._cluster = cluster
        self._interrupts = interrupts
        self._gateway = Gateway(cluster.client_urls[0])

    def steps(self) -> tuple[Step, ...]:
        """In order."""
        etcd, tool = self._programs.etcd, self._programs.restore
        count = len(self._cluster.names)
        return (
            Step("start", f"{count} members of etcd {etcd.version_text} ({etcd.path})", self._start),
            Step("init", "a configuration and keys, as `etcdguard init` makes them", self._init),
            Step("write", f"keys below {PREFIX}: revisions, deletes, a lease, a compaction", self._write),
            Step("backup", "as `etcdguard backup`: snapshot, compress, encrypt, store", self._backup),
            Step("verify", "as `etcdguard verify --level data`: read every byte back", self._verify),
            Step("disaster", "SIGKILL to every member, and all their data removed", self._lose),
            Step(
                "restore",
                f"as `etcdguard restore --all`, with {tool.kind} {tool.version_text}",
                self._restore,
            ),
            Step("restart", "all members together", self._restart),
            Step("prove", "that it is the same again", self._prove),
        )

    def _start(self) -> str:
        self._start_all()
        return f"{len(self._cluster.names)} members serve at {', '.join(self._cluster.client_urls)}"

    def _init(self) -> str:
        config_path = self._folder / CONFIG
        plan = init.plan(
            init.Request(
                config_path=config_path,
                cluster_name=_CLUSTER_NAME,
                repository=self._folder / "repository",
                spool_dir=self._folder / "spool",
                daemon_dir=self._folder / "daemon",
                restore_dir=self._folder / "restore",
                connection={"endpoints": self._cluster.client_urls},
            )
        )
        init.execute(plan)
        # Not this process's environment: ETCDCTL_* would lead to some other cluster.
        self.app = App(load(config_path, {}, {}))
        self.catalog = self.app.catalogs()[0]
        return "an age identity, a signing key, and a repository in a directory"

    def _write(self) -> str:
        self.history = write_history(self._gateway)
        for url in self._cluster.client_urls:  # whichever member the backup takes has caught up by then
            self.before = read_contents(Gateway(url), self.history.lease_id)
        return (
            f"{len(self.before.keys)} keys live, {len(self.history.deleted)} deleted, "
            f"{len(self.before.lease.keys)} on a lease; compacted at {self.history.compacted_at}, "
            f"revision {self.history.revision}"
        )

    def _backup(self) -> str:
        with self.app.etcd() as client:
            job = backup_job(self.app, client, NoProgress(), endpoint=None, emergency=False)
            report = job.run()
        self.backup = self.catalog.get(report.backup.id)
        facts = self.backup.manifest.snapshot
        return (
            f"{self.backup.id} at revision {facts.revision}: "
            f"{facts.db_bytes} bytes of database, {self.backup.manifest.stored_bytes} stored"
        )

    def _verify(self) -> str:
        results = self.app.verifier(self.catalog, NoProgress()).one(self.backup.id, "data")
        problems = [problem for result in results for problem in result.problems]
        if problems:
            raise Corruption("; ".join(problems), hint="a backup made this minute must be sound: report this")
        return "signature, checksums and database structure are as the manifest says"

    def _lose(self) -> str:
        self.late = write_late(self._gateway)
        self._cluster.kill()
        for name in self._cluster.names:
            remove_tree(self._cluster.data_dir(name))
        return f"{self.late} written after the backup; then nothing runs, and no data directory is left"

    def _restore(self) -> str:
        app, names = self.app, self._cluster.names
        self.plan = make_plan(
            self.backup.manifest,
            (),
            Choices(all_here=True, data_dirs={name: str(self._cluster.data_dir(name)) for name in names}),
            self._programs.restore,
            node=app.node,
            now=app.clock.now(),
            token_hex=secrets.token_hex,
        )
        host = LocalHost(app.node, node(app, ""))
        orders = Orders(tool=str(self._programs.restore.path))
        result = orchestrator(app, self.plan, (Site(host, names),), NoWatcher(), orders).run({})
        if result.record_problem is not None:
            raise PartialFailure(
                f"not recorded: {result.record_problem}", hint="check the folder's file system"
            )
        return f"{len(result.members)} members of a new cluster, {result.cluster_id}"

    def _restart(self) -> str:
        self._start_all()
        return f"{len(self._cluster.names)} members serve again"

    def _prove(self) -> str:
        with self.app.etcd() as client:
            self.proofs = (*self._cluster_proofs(client), *self._data_proofs())
        failed = sum(not one.holds for one in self.proofs)
        return f"{len(self.proofs) - failed} of {len(self.proofs)} proofs hold"

    def _start_all(self) -> None:
        with self._interrupts.held():  # a signal must not fall between a process's birth and our knowing it
            self._cluster.start_all()
        self._cluster.wait_healthy()

    def _cluster_proofs(self, client: EtcdClient) -> Iterator[Proof]:
        manifest = self.backup.manifest
        seen: list[Proof] = []

        def settled() -> bool:
            seen[:] = self._status_proofs(client)
            return all(one.holds for one in seen)

        Patience(_SETTLED_SECONDS, time.monotonic, time.sleep).until(settled)  # they may elect another leader
        yield from seen
        found = {
            name: client.hash_kv(self._cluster.client_url(name), manifest.snapshot.revision, _HASH_SECONDS)
            for name in self._cluster.names
        }
        yield proof.hashes(found, manifest.hash_kv)

    def _status_proofs(self, client: EtcdClient) -> Iterator[Proof]:
        manifest = self.backup.manifest
        topology = client.topology()
        statuses = [client.status(url) for url in self._cluster.client_urls]
        yield proof.voters(topology, statuses, self._cluster.names)
        yield proof.leader(topology, statuses)
        yield proof.cluster_id(statuses, self.plan.cluster_id, manifest.cluster.cluster_id)
        yield proof.revision(statuses, manifest.snapshot.revision)

    def _data_proofs(self) -> Iterator[Proof]:
        after = read_contents(self._gateway, self.history.lease_id)
        yield proof.keys(self.before, after)
        yield proof.deletes(self.history.deleted, self.late, after)
        yield proof.lease(self.before, after)
        name = self._cluster.names[-1]
        value = secrets.token_hex(8)
        self._gateway.put(f"{PREFIX}new", value)
        read = Gateway(self._cluster.client_url(name)).keys(f"{PREFIX}new")
        yield proof.write(value, next((stored.value for stored in read.values()), None), name)
