"""Two daemons, of which the one that leads lives by a wrong clock for a while."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lease import LeaseClient
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import lock_key
from etcdguard.slots import parse_schedule, slot_id
from etcdguard.storage.s3 import S3Store
from tests.campaign.clock_hands import JUMPS
from tests.campaign.table import Row
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.daemon_nodes import DaemonNode, Verdict, settle
from tests.support.fake_time import SettableClock
from tests.support.s3_servers import S3Server, make_bucket
from tests.support.waiting import eventually

__all__ = ["daemon_rows"]

_SLOT_SECONDS = 15


class _Daemons:
    """Two, on one repository in S3; each has a clock of its own."""

    def __init__(self, folder: Path, cluster: LocalCluster, server: S3Server, stack: ExitStack) -> None:
        self.schedule = parse_schedule([f"{_SLOT_SECONDS}s"])
        bucket = make_bucket(server)
        first = Installation.of(folder / "daemon-1", cluster, variables=credentials(server))
        seconds = f"{_SLOT_SECONDS}s"
        first.settings["repositories"] = [s3_repository(server, bucket)]
        first.settings["backup"] |= {"schedule": seconds}
        first.settings["daemon"] = {"ship": seconds}
        first.save()
        installations = (first, first.copy(folder / "daemon-2"))
        self.nodes = [DaemonNode(here.folder.name, here) for here in installations]
        self.clocks = {node.name: SettableClock(node.here.folder) for node in self.nodes}
        store = S3Store(server.options(bucket, "etcd"), session=server.session())
        self.catalog = Catalog(store, "prod", TrustedSigners([PublicKey.load(first.public_key)]))
        self._keys = LeaseClient(ConnectionOptions(cluster.client_urls))
        stack.callback(self._keys.close)
        for node in self.nodes:
            stack.callback(node.close)
            node.start(**self.clocks[node.name].variables)
        self.wait_for_backups(1)
        self.since = self.schedule.latest(datetime.now(timezone.utc))

    def strike(self, jump: timedelta) -> str:
        """The leader's clock jumps, and some slots later it is right again; then the other takes over."""
        before = self._settled()
        leader = self._leader()
        self.clocks[leader.name].set(jump)
        time.sleep(2.5 * _SLOT_SECONDS)  # the fault's own length
        self.clocks[leader.name].set(timedelta())
        set_right = slot_id(self.schedule.next(datetime.now(timezone.utc)))
        eventually(lambda: self._has_slot_after(set_right), "backups go on by the true time")
        leader.close()
        killed_at = slot_id(self.schedule.next(datetime.now(timezone.utc)))
        eventually(lambda: self._has_slot_after(killed_at), "the other daemon takes over")
        leader.start(**self.clocks[leader.name].variables)
        after = self._settled()
        missed = [slot for slot in after.missed if slot not in before.missed]
        slots = after.slots - before.slots
        return f"{slots} slots: {slots - len(missed)} with a backup, {len(missed)} with a reason"

    def wait_for_backups(self, count: int) -> None:
        eventually(lambda: len(self.catalog.list().backups) >= count, f"{count} backups")

    def _settled(self) -> Verdict:
        found = settle(self.catalog, self.schedule, self.nodes, since=self.since)
        assert not found.problems, found.problems
        listed = [backup.manifest.snapshot.revision for backup in self.catalog.list().backups]
        assert listed == sorted(listed), "a newer state stands before an older one"
        return found

    def _leader(self) -> DaemonNode:
        found: list[DaemonNode] = []

        def known() -> bool:
            held = self._keys.look(lock_key("prod", "daemon"))
            owner = "" if held is None else str(json.loads(held)["owner"])
            found.extend(node for node in self.nodes if node.pid and owner.endswith(f" pid {node.pid}"))
            return bool(found)

        eventually(known, "a daemon leads")
        return found[0]

    def _has_slot_after(self, slot: str) -> bool:
        """Whether a slot of the true present has a backup: later than that, and not in the future."""
        now = slot_id(datetime.now(timezone.utc))
        return any(slot < str(one.manifest.slot) <= now for one in self.catalog.list().backups)


def daemon_rows(folder: Path, cluster: LocalCluster, server: S3Server, jumps: Sequence[str]) -> Iterator[Row]:
    """The clock of the daemon that leads, for each jump; and the same without one, to compare with."""
    with ExitStack() as stack:
        daemons = _Daemons(folder, cluster, server, stack)
        for jump, ahead in {
            "right all the time": timedelta(),
            **{name: JUMPS[name] for name in jumps},
        }.items():
            cells = ("daemons", "between and during backups", "S3", jump)
            yield Row.of(cells, partial(daemons.strike, ahead))
