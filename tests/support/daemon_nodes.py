"""Several daemons as processes that are to be disturbed, and the judgment of what became of every slot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from etcdguard.backup.spool import Spool
from etcdguard.catalog import Catalog
from etcdguard.slots import Schedule, slot_id, slot_time
from tests.e2e.running import Installation

__all__ = ["DaemonNode", "Verdict", "judge", "settle"]

_SETTLE_SECONDS = 240.0


@dataclass
class DaemonNode:
    """One machine: an installation and its daemon."""

    name: str
    here: Installation
    process: subprocess.Popen[bytes] | None = None
    stopped: list[int] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.here.folder / "daemon.log"

    def start(self, **variables: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.here.argv("daemon", "--log-format=json"),
                cwd=self.here.folder,
                env=self.here.environment(**variables),
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

    def close(self) -> None:
        """SIGKILL the daemon and what it started."""
        self.resume()
        for pid in [] if self.pid is None else _children(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.kill()

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


def settle(
    catalog: Catalog, schedule: Schedule, nodes: Sequence[DaemonNode], *, since: datetime | None = None
) -> Verdict:
    """Wait until nothing waits any more and every slot that has passed is accounted for, then judge."""
    until = schedule.latest(datetime.now(timezone.utc))
    deadline = time.monotonic() + _SETTLE_SECONDS
    while (found := judge(catalog, schedule, nodes, until, since)).problems and time.monotonic() < deadline:
        time.sleep(1.0)
    return found


def judge(
    catalog: Catalog,
    schedule: Schedule,
    nodes: Sequence[DaemonNode],
    until: datetime,
    since: datetime | None = None,
) -> Verdict:
    """At this moment, of the slots from ``since`` (None: the first that has a backup) up to ``until``."""
    listing = catalog.list()
    problems = [f"{one.id}: {one.error.message}" for one in listing.problems]
    for node in nodes:
        problems += [f"{node.name} still has slot {slot} in its spool" for slot in node.waiting()]
    by_slot: dict[str, list[str]] = {}
    for backup in listing.backups:
        by_slot.setdefault(str(backup.manifest.slot), []).append(backup.id)
    problems += [f"slot {slot} has {len(ids)} backups" for slot, ids in by_slot.items() if len(ids) > 1]
    if not by_slot:
        return Verdict(0, 0, {}, 0, (*problems, "no backup at all"))
    first = since or slot_time(min(by_slot))
    passed = [slot_id(first), *map(slot_id, schedule.between(first, until, most=10_000))][:-1]
    _, missed_slots = catalog.ledger.known(first, until)
    missed = {
        slot: str(catalog.ledger.why_missed(slot))
        for slot in passed
        if slot in missed_slots and slot not in by_slot
    }
    problems += [
        f"slot {slot} has neither backup nor reason"
        for slot in passed
        if slot not in by_slot and slot not in missed
    ]
    listed = {backup.id for backup in listing.backups}
    dropped = {one["backup"] for node in nodes for one in node.events("backup.superseded")}
    for node in nodes:
        for one in node.events("backup.spooled"):
            if one["backup"] not in listed | dropped:
                problems.append(f"{one['backup']} was taken by {node.name} and is lost")
    return Verdict(len(passed), len(listed), missed, len(dropped), tuple(problems))


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found
