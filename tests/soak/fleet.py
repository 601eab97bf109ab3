"""Three real daemons on a real cluster and a real S3 server, each behind wires of its own that can be cut."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from etcdguard.backup.spool import Spool
from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lease import LeaseClient
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import lock_key
from etcdguard.slots import parse_schedule, slot_id, slot_time
from etcdguard.storage.s3 import S3Store
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.s3_servers import S3Server, make_bucket
from tests.support.tcp_proxy import Mode, TcpProxy

__all__ = ["Fleet", "Node", "Verdict"]

_SETTLE_SECONDS = 240.0


@dataclass
class Node:
    """One machine: an installation, its daemon, and the wires to etcd and S3."""

    name: str
    here: Installation
    etcd: tuple[TcpProxy, ...]
    s3: TcpProxy
    process: subprocess.Popen[bytes] | None = None
    stopped: list[int] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.here.folder / "daemon.log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.here.argv("daemon", "--log-format=json"),
                cwd=self.here.folder,
                env=self.here.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def kill(self) -> None:
        """SIGKILL the daemon; a job it had started goes on, as it may in real life."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def pause(self) -> None:
        """SIGSTOP the daemon and the job it runs."""
        if self.pid is not None:
            self.stopped = [self.pid, *_children(self.pid)]
            for pid in self.stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        for pid in self.stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.stopped = []

    def cut(self, what: str, mode: Mode) -> None:
        for proxy in self.etcd if what == "etcd" else (self.s3,):
            proxy.set(mode)

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """The log lines of one event."""
        for line in self.log.read_text(errors="replace").splitlines() if self.log.exists() else ():
            if line.startswith("{") and f'"{name}"' in line:
                with suppress(ValueError):  # a line cut off by a SIGKILL
                    found = json.loads(line)
                    if found.get("event") == name:
                        yield found

    def waiting(self) -> dict[str, str]:
        """Slots whose backup waits in the spool."""
        return Spool(self.here.spool).slots("prod")


@dataclass(frozen=True)
class Verdict:
    """What became of every slot."""

    slots: int
    backups: int
    missed: dict[str, str]
    superseded: int
    problems: tuple[str, ...]


class Fleet:
    """Use as a context manager. ``seconds`` between two slots."""

    def __init__(self, folder: Path, cluster: LocalCluster, server: S3Server, seconds: int) -> None:
        self.schedule = parse_schedule([f"{seconds}s"])
        self.seconds = seconds
        self._cluster = cluster
        bucket = make_bucket(server)
        self.nodes: list[Node] = []
        first: Installation | None = None
        for number in range(1, 4):
            s3 = TcpProxy(*_host_port(server.endpoint_url))
            etcd = tuple(TcpProxy(*_host_port(url)) for url in cluster.client_urls)
            if first is None:
                here = first = Installation(folder / "node-1", variables=credentials(server))
            else:
                here = first.copy(folder / f"node-{number}")
            wire = S3Server(
                f"http://{s3.netloc}", server.access_key, server.secret_key, server.region, server.name
            )
            here.settings["cluster"] = {
                "name": "prod",
                "endpoints": [f"http://{proxy.netloc}" for proxy in etcd],
                "command_timeout": "2s",
            }
            here.settings["repositories"] = [s3_repository(wire, bucket)]
            here.settings["backup"] |= {"schedule": f"{seconds}s", "emergency": f"{seconds}s"}
            here.settings["daemon"] = {"ship": f"{seconds}s"}
            here.save()
            self.nodes.append(Node(f"node-{number}", here, etcd, s3))
        assert first is not None
        store = S3Store(server.options(bucket, "etcd"), session=server.session())
        self.catalog = Catalog(store, "prod", TrustedSigners([PublicKey.load(first.public_key)]))
        self._keys = LeaseClient(ConnectionOptions(cluster.client_urls))

    def __enter__(self) -> Fleet:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            node.resume()
            for pid in [] if node.pid is None else _children(node.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.kill()
            for proxy in (*node.etcd, node.s3):
                proxy.close()
        self._keys.close()

    def leader(self) -> Node | None:
        """Whose daemon holds the lock, as etcd says."""
        found = self._keys.look(lock_key("prod", "daemon"))
        owner = "" if found is None else str(json.loads(found)["owner"])
        return next((node for node in self.nodes if node.pid and owner.endswith(f" pid {node.pid}")), None)

    def disturb(self, rng: random.Random, seconds: float, say: Callable[[str], None]) -> None:
        """Break one thing after the other for that long, then heal everything."""
        end = time.monotonic() + seconds
        troubles = ["kill", "pause", "etcd", "s3", "s3-all"]
        while time.monotonic() < end:
            if not troubles:
                troubles = ["kill", "pause", "etcd", "s3", "s3-all"]
            trouble = troubles.pop(rng.randrange(len(troubles)))
            node = self.leader() or rng.choice(self.nodes)
            mode: Mode = rng.choice(["refusing", "silent"])
            lasts = min(rng.uniform(16, 26), max(1.0, end - time.monotonic()))
            say(f"{trouble} {node.name} {mode if trouble not in ('kill', 'pause') else ''} for {lasts:.0f} s")
            self._one(trouble, node, mode, lasts)
            time.sleep(rng.uniform(2, self.seconds))

    def _one(self, trouble: str, node: Node, mode: Mode, lasts: float) -> None:
        if trouble == "kill":
            node.kill()
            time.sleep(lasts)
            node.start()
        elif trouble == "pause":
            node.pause()
            time.sleep(lasts)
            node.resume()
        else:
            struck = self.nodes if trouble == "s3-all" else [node]
            for one in struck:
                one.cut(trouble[:4].split("-")[0], mode)
            time.sleep(lasts)
            for one in struck:
                one.cut(trouble[:4].split("-")[0], "open")

    def verdict(self) -> Verdict:
        """Wait until nothing waits any more and every passed slot is accounted for, then judge."""
        until = self.schedule.latest(datetime.now(timezone.utc))
        deadline = time.monotonic() + _SETTLE_SECONDS
        while (found := self._judge(until)).problems and time.monotonic() < deadline:
            time.sleep(1.0)
        return found

    def _judge(self, until: datetime) -> Verdict:
        listing = self.catalog.list()
        problems = [f"{one.id}: {one.error.message}" for one in listing.problems]
        for node in self.nodes:
            problems += [f"{node.name} still has slot {slot} in its spool" for slot in node.waiting()]
        by_slot: dict[str, list[str]] = {}
        for backup in listing.backups:
            by_slot.setdefault(str(backup.manifest.slot), []).append(backup.id)
        problems += [f"slot {slot} has {len(ids)} backups" for slot, ids in by_slot.items() if len(ids) > 1]
        if not by_slot:
            return Verdict(0, 0, {}, 0, (*problems, "no backup at all"))
        first = slot_time(min(by_slot))
        passed = [slot_id(first), *map(slot_id, self.schedule.between(first, until, most=10_000))][:-1]
        _, missed_slots = self.catalog.ledger.known(first, until)
        missed = {slot: self._reason(slot) for slot in passed if slot in missed_slots and slot not in by_slot}
        problems += [
            f"slot {slot} has neither backup nor reason"
            for slot in passed
            if slot not in by_slot and slot not in missed
        ]
        listed = {backup.id for backup in listing.backups}
        dropped = {one["backup"] for node in self.nodes for one in node.events("backup.superseded")}
        for node in self.nodes:
            for one in node.events("backup.spooled"):
                if one["backup"] not in listed | dropped:
                    problems.append(f"{one['backup']} was taken by {node.name} and is lost")
        return Verdict(len(passed), len(listed), missed, len(dropped), tuple(problems))

    def _reason(self, slot: str) -> str:
        raw = b"".join(self.catalog.store.get(self.catalog.layout.missed(slot)))
        return str(json.loads(raw)["missed"])


def _host_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def narrate(text: str) -> None:
    """To the terminal, with the time."""
    sys.stdout.write(f"{datetime.now(timezone.utc):%H:%M:%S} {text}\n")
    sys.stdout.flush()
