"""The backup of a schedule's slot: taken when it is due and nobody has it, by one node of many.

Three things keep it to one, each for what the one before cannot see:

1. Whoever looks first finds the slot decided in a repository, or its own spool holding it, and goes home.
2. A lock in etcd lets one node work at a time; the next looks again.
3. The repository decides at the end (``catalog/ledger.py``): of two whole backups of a slot one is kept.

The first two spare work, the third is what holds. Without a quorum there is no lock: then a node may take
what its own member has, not more often than it is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from etcdguard.backup.run import BackupJob, BackupReport
from etcdguard.backup.spool import Spool, writing
from etcdguard.catalog.catalog import Catalog
from etcdguard.clock import Clock, instant
from etcdguard.errors import (
    ClusterUnhealthy,
    Corruption,
    EtcdGuardError,
    EtcdUnreachable,
    Interrupted,
    Locked,
    RepositoryError,
)
from etcdguard.log import get_logger
from etcdguard.slots import Schedule, slot_id, slot_time

__all__ = ["DueBackup", "DueReport", "Gate"]

_log = get_logger()

_LOOK_BACK = timedelta(days=8)
"""How far back a slot without a backup is given its reason."""
_MOST_RECORDS = 2000
_MOST_NOTES = 500


class Gate(Protocol):
    """The part of a lock that is needed here."""

    def acquire(self, patience: float = 0.0) -> None:
        """Take it within that many seconds; Locked when another has it, else what is wrong with etcd."""

    def release(self) -> None:
        """Give it up."""


@dataclass(frozen=True)
class DueReport:
    """What became of the slot: the ``report`` of the backup taken now, or the ``reason`` why none was."""

    slot: str
    report: BackupReport | None
    reason: str | None = None
    satisfied: bool = True
    """Whether the slot has a backup; if not, it is worth another try."""
    waits: bool = False
    """Whether that backup waits in the spool of this node."""


class DueBackup:
    """``run`` takes the backup that is due, if nobody has it.

    ``job`` makes a backup for a slot, in an emergency or not. ``emergency`` is the least time between two
    backups without a quorum from this node, None for none at all. ``patience`` in seconds: for the lock.
    """

    def __init__(
        self,
        schedule: Schedule,
        cluster: str,
        node: str,
        spool: Spool,
        catalogs: Sequence[Catalog],
        gate: Gate,
        job: Callable[[str, bool], BackupJob],
        clock: Clock,
        *,
        emergency: timedelta | None,
        patience: float,
    ) -> None:
        self._schedule = schedule
        self._cluster = cluster
        self._node = node
        self._spool = spool
        self._catalogs = catalogs
        self._gate = gate
        self._job = job
        self._clock = clock
        self._emergency = emergency
        self._patience = patience
        self._unknown: set[str] = set()
        """Repositories that did not answer: asking them again would take the slot's time."""

    def run(self) -> DueReport:
        """Take it, or say why not. Raises what BackupJob raises; the reason is kept for the slot's record."""
        slot = self._due()
        reason = self._satisfied(slot)
        if reason is not None:
            return DueReport(slot, None, reason, waits=self._waits(slot) is not None)
        try:
            self._gate.acquire(self._patience)
        except Locked as error:
            return DueReport(slot, None, error.message, satisfied=False)
        except (EtcdUnreachable, ClusterUnhealthy) as error:
            return self._without_lock(slot, error)
        try:
            slot = self._due()  # the lock may have taken its time
            reason = self._satisfied(slot)
            report = DueReport(slot, None, reason) if reason else self._take(slot, emergency=False)
            self._record_missed()
            return report
        finally:
            self._gate.release()

    def _due(self) -> str:
        return slot_id(self._schedule.latest(self._clock.now()))

    def _satisfied(self, slot: str) -> str | None:
        """Why nothing is to be done for the slot, or None."""
        waiting = self._waits(slot)
        if waiting is not None:
            return f"backup {waiting} of this slot waits in the spool of this node"
        for catalog in self._catalogs:
            if catalog.store.name in self._unknown:
                continue
            try:
                decision = catalog.ledger.decision(slot)
            except (RepositoryError, Corruption) as error:
                self._unknown.add(catalog.store.name)
                _log.warning("slot.unknown", repository=catalog.store.name, slot=slot, error=error.message)
                continue
            if decision is not None:
                return f"the slot has backup {decision.backup}, taken by {decision.node}"
        return None

    def _waits(self, slot: str) -> str | None:
        return self._spool.slots(self._cluster).get(slot)

    def _take(self, slot: str, *, emergency: bool) -> DueReport:
        try:
            report = self._job(slot, emergency).run()
        except Interrupted:
            raise
        except EtcdGuardError as error:
            self._note(slot, error.message)
            raise
        other = report.delivery.superseded_by
        if other is not None:
            return DueReport(slot, None, f"the slot has backup {other}, which was there first")
        return DueReport(slot, report)

    def _without_lock(self, slot: str, error: EtcdGuardError) -> DueReport:
        """The emergency policy: etcd cannot be asked, so no node knows of the others."""
        if self._emergency is None:
            self._note(slot, error.message)
            raise error
        now = self._clock.now()
        last = self._last_emergency()
        if last is not None and abs(now - last) < self._emergency:
            reason = (
                f"no lock can be had ({error.message}), and this node took a backup without one at {last}"
            )
            self._note(slot, reason)
            return DueReport(slot, None, reason, satisfied=False)
        _log.warning("backup.without_lock", slot=slot, error=error.message)
        report = self._take(slot, emergency=True)
        self._write("emergency", {"at": now.isoformat()})
        return report

    # -- what is remembered on this node -------------------------------------------------------------------

    def _last_emergency(self) -> datetime | None:
        try:
            return instant(self._read("emergency")["at"])
        except KeyError:
            return None
        except ValueError as error:
            _log.warning("slot.memory_damaged", name="emergency", error=str(error))
            return None

    def _note(self, slot: str, reason: str) -> None:
        """Keep the newest reason why the slot has no backup yet, for its record."""
        notes = self._read("reasons") | {slot: reason}
        self._write("reasons", dict(sorted(notes.items())[-_MOST_NOTES:]))

    def _read(self, name: str) -> dict[str, str]:
        try:
            return {str(k): str(v) for k, v in json.loads(self._memory(name).read_bytes()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as error:
            _log.warning("slot.memory_damaged", name=name, error=str(error))
            return {}

    def _write(self, name: str, facts: dict[str, str]) -> None:
        path = self._memory(name)
        with writing(path.parent):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(json.dumps(facts, indent=1))
            temporary.replace(path)

    def _memory(self, name: str) -> Path:
        return self._spool.path / f"{name}-{self._cluster}.json"

    # -- slots that passed ---------------------------------------------------------------------------------

    def _record_missed(self) -> None:
        """Give every slot that has passed without a backup its reason, in each repository in reach.

        From the oldest slot that the repository knows of, at most eight days back.
        """
        now = self._clock.now()
        current = self._schedule.latest(now)
        reasons = self._read("reasons")
        for catalog in self._catalogs:
            if catalog.store.name in self._unknown:
                continue
            try:
                decided, missed = catalog.ledger.known(now - _LOOK_BACK, now)
                if not decided:
                    continue
                first = slot_time(min(decided))
                passed = self._schedule.between(first, current, most=_MOST_RECORDS)
                for slot in map(slot_id, passed[:-1]):
                    if slot not in decided and slot not in missed:
                        reason = reasons.get(slot, "no node had brought a backup when it was over")
                        catalog.ledger.record_missed(slot, reason, node=self._node, at=now)
                        _log.warning("slot.missed", slot=slot, repository=catalog.store.name, reason=reason)
            except (RepositoryError, Corruption) as error:
                _log.warning("slot.not_recorded", repository=catalog.store.name, error=error.message)
