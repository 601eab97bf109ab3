"""A thousand random operations by the real interfaces, crashes among them: an audit finds nothing wrong."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etcdguard.audit.case import Expectation
from etcdguard.errors import RepositoryError
from etcdguard.retention import Period, Policy
from etcdguard.storage.base import RepositoryStore
from tests.support.faulty_store import Fault, FaultyStore, Rule, SimulatedCrash
from tests.unit.audit.scenes import PROMISE, Scene

OPERATIONS = 1000
AUDIT_EVERY = 100

POLICIES = (
    Policy(keep_last=3),
    Policy(keep_last=12, keep_daily=3),
    Policy(keep_hourly=8, min_verified=3),
    Policy(keep_daily=2, keep_weekly=2),
    Policy(keep_within=Period(hours=9)),
)


class RandomLife:
    """Two repositories and one node, at the mercy of a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.scene = Scene(folder, "one", "two", promise=replace(PROMISE, schedules={}))
        self.done: dict[str, int] = {}
        self.scene.backup(scheduled=False)

    def step(self) -> None:
        operations = {
            self.backup: 40,
            self.prune: 20,
            self.hold: 10,
            self.release: 10,
            self.verify: 10,
            self.crashed_prune: 5,
            self.crashed_backup: 3,
            self.backup_into_one: 2,
        }
        (operation,) = self.rng.choices(list(operations), list(operations.values()))
        operation()
        self.done[operation.__name__] = self.done.get(operation.__name__, 0) + 1
        self.scene.to(self.scene.clock.moment + timedelta(minutes=self.rng.choice((1, 7, 30, 90))))

    def audit(self) -> list[tuple[str, str | None]]:
        """When everything that waits was delivered."""
        self.scene.backup(scheduled=False)
        assert self.scene.node.spool.entries() == []
        return self.scene.findings(notices=True, expectation=Expectation(self.scene.promise, True))

    # -- operations --------------------------------------------------------------------------------------

    def backup(self) -> None:
        self.scene.backup(scheduled=False)

    def backup_into_one(self) -> None:
        """The other is down; it gets the backup later."""
        down = Rule(Fault.SERVER_ERROR, "put", times=None)
        self.scene.backup(self.scene.stores[0], FaultyStore(self.scene.stores[1], [down]), scheduled=False)

    def crashed_backup(self) -> None:
        stores = self._crashing()
        try:
            self.scene.backup(*stores, scheduled=False)
        except (SimulatedCrash, RepositoryError):
            return

    def prune(self) -> None:
        self.scene.prune(self.rng.choice(POLICIES), self.rng.randrange(2))

    def crashed_prune(self) -> None:
        number = self.rng.randrange(2)
        whole = self.scene.stores[number]
        self.scene.stores[number] = FaultyStore(whole, crash_after=self.rng.randrange(150))
        try:
            self.scene.prune(self.rng.choice(POLICIES), number)
        except SimulatedCrash:
            return
        finally:
            self.scene.stores[number] = whole

    def hold(self) -> None:
        number, backup_id = self._any()
        self.scene.hold(backup_id, number=number)

    def release(self) -> None:
        number = self.rng.randrange(2)
        holds = [info.key for info in self.scene.stores[number].list("prod/holds/")]
        if holds:
            layout = self.scene.catalog(number).layout
            self.scene.release(layout.held_id(self.rng.choice(holds)), number=number)

    def verify(self) -> None:
        number, backup_id = self._any()
        level = self.rng.choice(("manifest", "data", "data", "drill"))
        results = [{"id": backup_id, "level": level, "outcome": "ok"}]
        self.scene.record("verify", {"results": results}, number)

    def _any(self) -> tuple[int, str]:
        number = self.rng.randrange(2)
        return number, self.rng.choice(self.scene.catalog(number).list().backups).id

    def _crashing(self) -> list[RepositoryStore]:
        first, second = self.scene.stores
        return [FaultyStore(first, crash_after=self.rng.randrange(30)), second]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [20261121])
def test_nothing_is_found_where_nothing_is_wrong(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # no power is cut here
    life = RandomLife(tmp_path, seed)
    for number in range(1, OPERATIONS + 1):
        life.step()
        if number % AUDIT_EVERY == 0:
            assert life.audit() == [], f"after {number} operations"
    print(life.done)
    assert all(life.done[name] >= 10 for name in ("backup", "prune", "hold", "release", "crashed_prune"))
    assert life.done["crashed_backup"] >= 10
    report = life.scene.report(expectation=Expectation(life.scene.promise, True))
    assert len(report["deletions"]) > 300
    # What made it all up is still found out.
    life.scene.store.delete(life.scene.manifest_key(report["backups"][-1]["id"]))
    assert life.scene.findings() == [("manifest-missing", report["backups"][-1]["id"])]
