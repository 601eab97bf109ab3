"""Daemons on both sides of a cut: every slot has one backup or a reason, and every spool drains after it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from etcdguard.catalog.chain import link_problem
from etcdguard.errors import EtcdGuardError
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lease import LeaseClient
from etcdguard.etcd.lock import lock_key
from etcdguard.slots import parse_schedule
from tests.campaign.network_site import MEMBERS, NODES, NetworkSite
from tests.campaign.table import Row
from tests.support.daemon_nodes import DaemonNode, Verdict, settle
from tests.support.waiting import eventually

__all__ = ["CUTS", "daemon_rows"]

_SLOT_SECONDS = 15
_S3 = "s3"
Sides = tuple[Sequence[str], Sequence[str]]


@dataclass(frozen=True)
class Cut:
    """What is cut off from what; ``sides`` is told who leads."""

    name: str
    sides: Callable[[str], Sides]


def _others(*names: str) -> list[str]:
    return [name for name in (*MEMBERS, "far", _S3) if name not in names]


CUTS = (
    Cut("every daemon from S3", lambda leader: (NODES, [_S3])),
    Cut("the daemon that leads from S3", lambda leader: ([leader], [_S3])),
    Cut("the daemon that leads from the other members", lambda leader: ([leader], [*_members_but(leader)])),
    Cut("the daemon that leads from members and S3", lambda leader: ([leader], [*_members_but(leader), _S3])),
    Cut("a member from the other members", lambda leader: (["cp3"], ["cp1", "cp2"])),
    Cut("a node with its member from everything", lambda leader: (["cp1"], _others("cp1"))),
    Cut("a node with its member and S3 from the rest", lambda leader: (["cp1", _S3], _others("cp1", _S3))),
    Cut("all members from each other", lambda leader: (MEMBERS, MEMBERS)),
)


def _members_but(name: str) -> Iterator[str]:
    return (member for member in MEMBERS if member != name)


class _Daemons:
    def __init__(self, site: NetworkSite, stack: ExitStack) -> None:
        self.site = site
        self.schedule = parse_schedule([f"{_SLOT_SECONDS}s"])
        self.nodes = [self._node(name) for name in NODES]
        self.catalog = site.catalog(self.nodes[0].here)
        self._keys = LeaseClient(ConnectionOptions(site.members.client_urls))
        stack.callback(self._keys.close)
        for node in self.nodes:
            stack.callback(node.close)
            with site.network[node.name].entered():
                node.start()

    def leader(self) -> str | None:
        """The node whose daemon holds the lock, as etcd says; None also while etcd says nothing."""
        try:
            found = self._keys.look(lock_key("prod", "daemon"))
        except EtcdGuardError:
            return None
        owner = "" if found is None else str(json.loads(found)["owner"])
        return next((one.name for one in self.nodes if owner.endswith(f" pid {one.pid}")), None)

    def settle(self) -> Verdict:
        """When all is quiet again. The chain may fork: nodes that ship at once do not see each other."""
        found = settle(self.catalog, self.schedule, self.nodes)
        listed = self.catalog.list().backups
        raws = {backup.id: backup.raw for backup in listed}
        problems = [*found.problems, *filter(None, (link_problem(one.manifest, raws) for one in listed))]
        problems += [f"the daemon of {node.name} has ended" for node in self.nodes if node.pid is None]
        assert not problems, "; ".join(problems)
        return found

    def _node(self, name: str) -> DaemonNode:
        seconds = f"{_SLOT_SECONDS}s"
        here = self.site.installation(
            f"daemon-{name}",
            backup={"schedule": seconds, "emergency": seconds},
            daemon={"ship": seconds},
        )
        here.settings["cluster"]["command_timeout"] = "2s"
        here.save()
        return DaemonNode(name, here)


def daemon_rows(site: NetworkSite, cuts: Sequence[Cut], seconds: float, rng: random.Random) -> Iterator[Row]:
    """Three daemons; one cut after the other, each for so long, give or take a slot."""
    with ExitStack() as stack:
        daemons = _Daemons(site, stack)
        eventually(lambda: len(daemons.catalog.list().backups) > 0, "a first backup")
        for cut in cuts:
            lasts = seconds + rng.uniform(0, _SLOT_SECONDS)
            cells = ("daemons", cut.name, f"{lasts:.0f} s")
            yield Row.of(cells, partial(_struck, daemons, cut, lasts))


def _struck(daemons: _Daemons, cut: Cut, seconds: float) -> str:
    before = daemons.settle()
    eventually(lambda: daemons.leader() is not None, "a daemon leads")
    sides = cut.sides(str(daemons.leader()))
    with daemons.site.network.parted(*sides):
        time.sleep(seconds)  # the fault's own length
    after = daemons.settle()
    eventually(lambda: daemons.leader() is not None, "a daemon leads again")
    missed = [reason for slot, reason in after.missed.items() if slot not in before.missed]
    dropped = after.superseded - before.superseded
    slots = after.slots - before.slots
    said = f"{slots} slots: {slots - len(missed)} with a backup, {len(missed)} with a reason"
    return said + (f"; {dropped} second backups of a slot dropped" if dropped else "")
