"""A cluster's life in repositories in memory, by the real interfaces, and the report on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from etcdguard.audit.case import Case, Expectation
from etcdguard.audit.document import audited
from etcdguard.audit.gather import gather
from etcdguard.audit.history import tell
from etcdguard.audit.period import Span
from etcdguard.audit.promise import Promise
from etcdguard.catalog import Catalog
from etcdguard.hold import Keeper
from etcdguard.prune import Limits, Pruner
from etcdguard.retention import Policy
from etcdguard.slots import parse_schedule, slot_id
from etcdguard.storage.base import LockRule, RepositoryStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, IDENTITY, SIGNER, START, TRUSTED, ManualClock, Node

__all__ = ["DAY", "HOUR", "PROMISE", "Scene"]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
PROMISE = Promise({"backup": parse_schedule(["1h"])}, Policy(keep_last=6), (IDENTITY.recipient.fingerprint,))


class Scene:
    """Repositories ``one``, ``two``, ... with what a node does to them; time begins at START."""

    def __init__(
        self,
        folder: Path,
        *names: str,
        promise: Promise = PROMISE,
        cluster: str = CLUSTER,
        stores: Sequence[RepositoryStore] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.promise = promise
        self.stores = list(stores or [MemoryStore(name, now=self.clock.now) for name in names or ("one",)])
        self.node = Node(folder / f"spool-{cluster}", clock=self.clock, cluster=cluster, promise=promise)
        self.cluster = cluster
        self.ids: list[str] = []
        self._revision = 20

    @property
    def store(self) -> RepositoryStore:
        return self.stores[0]

    def catalog(self, number: int = 0) -> Catalog:
        return Catalog(self.stores[number], self.cluster, TRUSTED)

    # -- what happens ------------------------------------------------------------------------------------

    def to(self, moment: datetime) -> None:
        self.clock.moment = moment

    def backup(self, *stores: RepositoryStore, scheduled: bool = True) -> str:
        """One of the current hour's slot, into these repositories or all."""
        slot = slot_id(self.clock.moment.replace(minute=0, second=0)) if scheduled else None
        self.node.options = {"slot": slot}
        self._revision += 1
        made = self.node.backup(self._revision, *(stores or self.stores)).backup.id
        self.ids.append(made)
        return made

    def hours(self, count: int) -> list[str]:
        """A backup at the beginning of each of the next hours, and an hour more."""
        made = []
        for _ in range(count):
            made.append(self.backup())
            self.clock.moment = self.clock.moment.replace(minute=0, second=0) + HOUR
        return made

    def verify(self, backup_id: str, level: str = "data", outcome: str = "ok", **facts: Any) -> str:
        result = {"id": backup_id, "level": level, "outcome": outcome, **facts}
        return self.record("verify", {"results": [result]})

    def drill(self, backup_id: str, seconds: float = 12.5, outcome: str = "ok") -> str:
        drill = {"members": 1, "rto_seconds": seconds, "seconds": {}, "proofs": {}, "keys": {}}
        return self.verify(backup_id, "drill", outcome, drill=drill, problems=[])

    def record(self, kind: str, facts: Mapping[str, Any], number: int = 0) -> str:
        trail = self.catalog(number).trail
        return trail.record(kind, facts, at=self.clock.now(), actor="node-1", signer=SIGNER)

    def hold(self, backup_id: str, reason: str = "lawsuit", number: int = 0) -> None:
        Keeper(self.catalog(number), SIGNER).add(backup_id, reason, at=self.clock.now(), actor="ann")

    def release(self, backup_id: str, reason: str = "settled", number: int = 0) -> None:
        Keeper(self.catalog(number), SIGNER).remove(backup_id, reason, at=self.clock.now(), actor="bob")

    def prune(self, policy: Policy | None = None, number: int = 0) -> list[str]:
        """The ids that went."""
        pruner = Pruner(
            self.catalog(number),
            self.stores[number],
            policy or self.promise.retention or Policy(),
            must_be_signed=True,
            record=lambda facts: self.record("prune", facts, number),
            # A real store has a clock of its own, which is not that of the scene.
            limits=Limits(max_fraction=1.0, clock_skew=timedelta(days=36500)),
        )
        now = self.clock.now()
        return [one.id for one in pruner.execute(pruner.plan(now), now).removed]

    # -- what a mischief-maker does ------------------------------------------------------------------------

    def read(self, key: str) -> bytes:
        return b"".join(self.store.get(key))

    def manifest_key(self, backup_id: str) -> str:
        return self.catalog().layout.manifest(backup_id)

    def object_key(self, backup_id: str) -> str:
        return f"{self.cluster}/backups/{backup_id}/snapshot.db.zst.age"

    def folder(self, backup_id: str) -> dict[str, bytes]:
        """Everything of a backup, by key."""
        prefix = f"{self.cluster}/backups/{backup_id}/"
        return {info.key: self.read(info.key) for info in self.store.list(prefix)}

    def events(self, kind: str) -> list[str]:
        layout = self.catalog().layout
        return [i.key for i in self.store.list(layout.events) if layout.event_kind(i.key) == kind]

    # -- the report ----------------------------------------------------------------------------------------

    def case(
        self,
        *,
        start: datetime = START - HOUR,
        expectation: Expectation | None = None,
        lock: LockRule | None = None,
    ) -> Case:
        now = self.clock.moment
        period = Span(start, now)
        expected = expectation or Expectation(self.promise, must_be_signed=True)
        facts = [
            gather(Catalog(store, self.cluster, TRUSTED), store, period, now, lock) for store in self.stores
        ]
        return Case(self.cluster, period, now, expected, tuple(tell(one) for one in facts))

    def report(self, **arguments: Any) -> dict[str, Any]:
        return audited(self.case(**arguments))

    def controls(self, **arguments: Any) -> dict[str, dict[str, Any]]:
        return {one["id"]: one for one in self.report(**arguments)["controls"]}

    def findings(self, *, notices: bool = False, **arguments: Any) -> list[tuple[str, str | None]]:
        """Code and backup of everything found."""
        return [
            (one["code"], one["backup"])
            for control in self.report(**arguments)["controls"]
            for one in control["findings"]
            if notices or one["severity"] == "failure"
        ]

    def rewrite(self, key: str, change: Mapping[str, Any]) -> None:
        """A document changed without the key to sign it."""
        document = json.loads(self.read(key)) | dict(change)
        self.store.put(key, json.dumps(document, sort_keys=True, indent=2).encode() + b"\n")
