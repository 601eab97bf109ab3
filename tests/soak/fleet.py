"""Three real daemons on a real cluster and a real S3 server, each behind wires of its own that can be cut."""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lease import LeaseClient
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import lock_key
from etcdguard.slots import parse_schedule
from etcdguard.storage.s3 import S3Store
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.daemon_nodes import DaemonNode, Verdict, settle
from tests.support.s3_servers import S3Server, make_bucket
from tests.support.tcp_proxy import Mode, TcpProxy

__all__ = ["Fleet", "Node"]


@dataclass
class Node(DaemonNode):
    """One machine: its daemon, and the wires to etcd and S3."""

    etcd: tuple[TcpProxy, ...] = ()
    s3: TcpProxy = field(kw_only=True)

    def cut(self, what: str, mode: Mode) -> None:
        for proxy in self.etcd if what == "etcd" else (self.s3,):
            proxy.set(mode)


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
            self.nodes.append(Node(f"node-{number}", here, etcd=etcd, s3=s3))
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
            node.close()
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
        return settle(self.catalog, self.schedule, self.nodes)


def _host_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def narrate(text: str) -> None:
    """To the terminal, with the time."""
    sys.stdout.write(f"{datetime.now(timezone.utc):%H:%M:%S} {text}\n")
    sys.stdout.flush()
