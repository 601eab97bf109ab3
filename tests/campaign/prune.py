"""``python -m tests.campaign.prune``: SIGKILL a real prune at its requests to a real S3 server.

Moments are requests, not seconds: the proxy holds one back, and the process dies waiting for its answer. So a
slow machine tries the same as a quick one.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import structlog
import yaml

from etcdguard import __version__
from etcdguard.errors import RepositoryError
from etcdguard.hold import Keeper
from etcdguard.storage.s3 import S3Store
from tests.campaign.table import Row, print_table
from tests.e2e.running import credentials, s3_repository
from tests.support.backups import CLUSTER, SIGNER, ManualClock, Node, catalog_of, database, violations
from tests.support.fake_source import FakeSource
from tests.support.faulty_store import Fault, FaultyStore, Rule
from tests.support.http_faults import FaultProxy, HttpFault, fault_proxy
from tests.support.s3_servers import S3Server, make_bucket, seaweedfs

__all__ = ["Report", "kill_prunes"]

_KEEP = 3
_NEW = 3
"""Backups that each round has to let go of."""
_UNTIL_WHOLE = 3
"""Of so many prunes one is left to its end."""
_PATIENCE = 240.0


@dataclass
class Report:
    """What was killed, by the request it waited for."""

    killed: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    """Prunes that came to their end before the request they were to die at."""
    completed: int = 0


class _Site:
    """A repository: backups to keep by rule, by hold and by proof, and another node in the midst of one."""

    def __init__(self, folder: Path, server: S3Server, proxy: FaultProxy) -> None:
        bucket = make_bucket(server)
        self.folder = folder
        self.proxy = proxy
        self.server = server
        self.store = S3Store(server.options(bucket, "etcd"), session=server.session())
        self.catalog = catalog_of(self.store)
        self.clock = ManualClock(datetime.now(timezone.utc) - timedelta(days=200))
        self.revision = 20
        self.ids = [self._backup() for _ in range(2 + _KEEP)]
        results = [{"id": self.ids[0], "level": "data", "outcome": "ok"}]
        self.catalog.trail.record(
            "verify", {"results": results}, at=datetime.now(timezone.utc), actor="cp1", signer=SIGNER
        )
        Keeper(self.catalog, SIGNER).add(self.ids[1], "kept", at=self.clock.now(), actor="cp1")
        self.elsewhere = Node(folder / "elsewhere", clock=self.clock)
        self.begun = self._begin_elsewhere()
        self._configure(s3_repository(server, bucket), proxy)

    @property
    def protected(self) -> list[str]:
        """What no prune may touch, and all that is left in the end."""
        return [*self.ids[:2], *self.ids[-_KEEP:]]

    def add(self) -> None:
        for _ in range(_NEW):
            self.ids.append(self._backup())

    def check(self) -> None:
        """Whole backups, and all that are not there any more were told of before."""
        listed = {backup.id for backup in self.catalog.list().backups}
        assert violations(self.store) == []
        assert set(self.protected) <= listed
        told = {one["id"] for event in self.catalog.trail.events("prune") for one in event.get("remove", ())}
        assert set(self.ids) - listed <= told
        self.store.head(self.begun)

    def whole(self) -> None:
        """After a prune that was let be."""
        self.check()
        assert [backup.id for backup in self.catalog.list().backups] == self.protected

    def finish_elsewhere(self) -> None:
        """The node whose object lay there all the time ships it."""
        waiting = [entry.backup() for entry in self.elsewhere.spool.entries()]
        self.elsewhere.run(FakeSource(database(self.revision + 1)), self.store)
        listed = {backup.id for backup in self.catalog.list().backups}
        assert {backup.id for backup in waiting if backup} <= listed
        assert len(listed) == len(self.protected) + 2
        assert violations(self.store) == []

    def prune(self) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "etcdguard", "prune", "--confirm", "-q", "-o", "json"]
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("ETCDGUARD_", "AWS_"))
        }
        return subprocess.Popen(
            [*argv, "--config", str(self.folder / "config.yaml")],
            env={**clean, **credentials(self.server)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _backup(self) -> str:
        node = Node(self.folder / "spool", clock=self.clock)
        self.revision += 1
        made = node.backup(self.revision, self.store).backup.id
        self.clock.moment += timedelta(hours=1)
        return made

    def _begin_elsewhere(self) -> str:
        """Its object is stored, and then the node is cut off."""
        cut_off = FaultyStore(self.store, [Rule(Fault.DENIED, "head", key="snapshot", times=None)])
        with suppress(RepositoryError):
            self.elsewhere.run(FakeSource(database(900)), cut_off)
        (entry,) = self.elsewhere.spool.entries()
        backup = entry.backup()
        assert backup is not None
        return self.catalog.layout.absolute(backup.stored.key)

    def _configure(self, repository: dict[str, Any], proxy: FaultProxy) -> None:
        key = self.folder / "signing.pem"
        key.write_bytes(SIGNER.private_pem())
        key.chmod(0o600)
        repository["s3"]["endpoint_url"] = proxy.endpoint_url
        settings = {
            "cluster": {"name": CLUSTER},
            "encryption": {"disabled": True},
            "signing": {"key_file": str(key)},
            "repositories": [repository],
            "retention": {"keep_last": _KEEP, "max_fraction": 1.0},
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(settings))


def kill_prunes(folder: Path, server: S3Server, kills: int, seed: int, report: Report) -> str:
    """Add backups, prune, kill it, look; in between prunes that are let be. Raises AssertionError."""
    moments = random.Random(seed)
    with fault_proxy(server.endpoint_url) as proxy:
        site = _Site(folder, server, proxy)
        requests: list[str] = []
        for number in range(kills):
            site.add()
            if number % _UNTIL_WHOLE == 0:
                requests = _complete(site)
                report.completed += 1
                site.add()
            _kill(site, requests, moments, report)
            site.check()
        _complete(site)
        site.finish_elsewhere()
    return "done"


def _complete(site: _Site) -> list[str]:
    """Let one be; its requests."""
    site.proxy.requests.clear()
    with site.prune() as process:
        out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, err
    assert json.loads(out)["remove"]
    site.whole()
    return list(site.proxy.requests)


def _kill(site: _Site, requests: Sequence[str], moments: random.Random, report: Report) -> None:
    """At any request, or as often at one from the first write on."""
    first_write = next(at for at, request in enumerate(requests) if request.startswith("PUT"))
    at = moments.randrange(moments.choice((0, first_write)), len(requests))
    method, _, path = requests[at].partition(" ")
    skip = sum(request.startswith(f"{method} ") for request in requests[:at])
    site.proxy.plan(HttpFault.DELAY, method, skip=skip)
    with site.prune() as process:
        deadline = time.monotonic() + _PATIENCE
        while site.proxy.unmet and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
    if site.proxy.unmet:
        assert process.returncode == 0
        report.ended += 1
    else:
        report.killed[f"{method} {_kind(path)}"] += 1
    site.proxy.recover()


def _kind(path: str) -> str:
    known = ("manifest.json.sig", "manifest.json", "snapshot.db", "events", "holds", "slots", "uploads")
    return next((word for word in known if word in path), "listing")


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="SIGKILL prunes at their requests.")
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="etcdguard-campaign-") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with seaweedfs(folder / "server") as server:
            print(f"etcdguard {__version__}, {server.name}, seed {chosen.seed}\n")
            report = Report()
            bad = Row.of(("-",), lambda: kill_prunes(folder, server, chosen.kills, chosen.seed, report))
    said = "what is kept is sound, what is gone was told of"
    rows = [Row((f"its {what}",), f"{times} times, {said}") for what, times in sorted(report.killed.items())]
    rows.append(Row(("nothing: it had ended",), f"{report.ended} times, {said}"))
    rows.append(Row(("nothing: let be",), f"{report.completed} times, all that may go is gone"))
    return print_table(("killed while it waited for",), rows if bad.outcome is not None else [*rows, bad])


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
