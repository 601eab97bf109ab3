"""Each control on a cluster's life in memory: what passes it, what fails it, and with which finding."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdguard.audit.case import Expectation
from etcdguard.audit.document import audited
from etcdguard.audit.facts import RepositoryFacts
from etcdguard.audit.history import History
from etcdguard.audit.promise import Promise
from etcdguard.retention import Policy
from etcdguard.slots import parse_schedule
from etcdguard.storage.base import Lock, LockRule
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import START
from tests.unit.audit.scenes import DAY, HOUR, PROMISE, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def outcomes(scene: Scene, **arguments: Any) -> dict[str, str]:
    return {name: one["outcome"] for name, one in scene.controls(**arguments).items()}


def test_a_day_without_trouble(scene: Scene) -> None:
    scene.hours(8)
    assert len(scene.prune()) == 2
    scene.hours(2)
    scene.prune()
    assert scene.findings(notices=True) == []
    assert outcomes(scene) == {
        "repositories.readable": "PASS",
        "backups.on-schedule": "PASS",
        "backups.recovery-point": "PASS",
        "backups.sound": "PASS",
        "backups.signed": "PASS",
        "backups.encrypted": "PASS",
        "backups.locked": "NOT-APPLICABLE",
        "backups.copied": "NOT-APPLICABLE",
        "chain.unbroken": "PASS",
        "deletions.recorded": "PASS",
        "trail.complete": "PASS",
        "holds.kept": "NOT-APPLICABLE",
        "retention.kept-to": "PASS",
        "verification.data": "NOT-APPLICABLE",
        "restore.drilled": "NOT-APPLICABLE",
    }
    measures = scene.report()["measures"]
    # The slot of the first backup began before that backup, and the last has no next slot yet.
    assert (measures["slots_expected"], measures["slots_satisfied"], measures["success_rate"]) == (9, 9, 1.0)
    assert measures["backups_taken"] == 10
    assert 3590 <= measures["longest_gap_seconds"] <= 3610


# -- schedules ---------------------------------------------------------------------------------------------


def test_a_missed_slot_is_told_with_its_reason_and_its_gap(scene: Scene) -> None:
    scene.hours(3)
    scene.catalog().ledger.record_missed("20261121T050000Z", "no quorum", node="n", at=scene.clock.now())
    scene.to(START + 5 * HOUR)
    scene.hours(2)
    controls = scene.controls()
    told = controls["backups.on-schedule"]["findings"]
    assert [one["message"] for one in told] == [
        "no backup was taken for 2026-11-21T05:00:00Z: no quorum",
        "no backup was taken for 2026-11-21T06:00:00Z: no reason is on record",
    ]
    assert controls["backups.on-schedule"]["summary"] == "4 of 6 scheduled backups were taken (66.67%)"
    (gap,) = controls["backups.recovery-point"]["findings"]
    assert gap["code"] == "gap-too-long"
    assert gap["message"].startswith("3h without a backup, from 2026-11-21T04:00:")


def test_the_slot_of_now_is_not_missed_yet(scene: Scene) -> None:
    scene.hours(3)
    scene.to(scene.clock.moment + timedelta(minutes=25))
    assert scene.findings() == []
    scene.to(scene.clock.moment + timedelta(minutes=36))
    assert scene.findings() == [("slot-missed", None), ("gap-too-long", None)]


def test_the_schedule_of_the_time_counts(scene: Scene) -> None:
    """Hourly, then every four hours: nothing is missed by the rule of the other time."""
    scene.hours(4)
    slower = replace(PROMISE, schedules={"backup": parse_schedule(["4h"])})
    scene.node.promise = scene.promise = slower
    for hour in (8, 12, 16):
        scene.to(START.replace(hour=hour))
        scene.backup()
    found = scene.report()
    missed = [one["message"][:40] for one in found["controls"][1]["findings"]]
    assert missed == ["no backup was taken for 2026-11-21T06:00", "no backup was taken for 2026-11-21T07:00"]
    changes = [one["policy"]["schedules"]["backup"] for one in found["policy_changes"]]
    assert changes == [["1h"], ["4h"]]


def test_backups_by_hand_close_gaps_and_fill_no_slot(scene: Scene) -> None:
    scene.hours(2)
    scene.to(START + 2 * HOUR + timedelta(minutes=20))
    scene.backup(scheduled=False)
    scene.to(START + 3 * HOUR)
    scene.backup()
    assert scene.findings() == [("slot-missed", None)]


def test_an_objective_of_ones_own(scene: Scene) -> None:
    scene.hours(4)
    strict = Expectation(PROMISE, must_be_signed=True, rpo=timedelta(minutes=50))
    assert scene.findings(expectation=strict) == [("gap-too-long", None)] * 4


def test_a_period_without_backups(scene: Scene) -> None:
    scene.to(START + 2 * DAY)
    nothing = scene.findings(expectation=Expectation(Promise(), must_be_signed=True))
    assert nothing == []
    report = scene.report()
    assert report["outcome"] == "FAIL"
    assert report["backups"] == []
    codes = [code for code, _ in scene.findings()]
    assert codes == ["slot-missed"] * 49 + ["no-backup"]


def test_a_period_long_after_the_last_backup(scene: Scene) -> None:
    scene.hours(3)
    scene.to(START + 10 * DAY)
    report = scene.report(start=START + 9 * DAY)
    assert report["measures"]["backups_taken"] == 0
    assert report["measures"]["longest_gap_seconds"] > 9 * 86400
    assert {code for code, _ in scene.findings(start=START + 9 * DAY)} == {"slot-missed", "gap-too-long"}


# -- verification and drills ---------------------------------------------------------------------------------


VERIFIED = replace(
    PROMISE,
    schedules={
        "backup": parse_schedule(["1h"]),
        "data": parse_schedule(["4h"]),
        "drill": parse_schedule(["8h"]),
    },
)


def test_verification_and_drills_have_an_age(tmp_path: Path) -> None:
    scene = Scene(tmp_path, promise=VERIFIED)
    first, *_ = scene.hours(5)
    scene.verify(first)
    scene.drill(first, seconds=7.5)
    scene.hours(7)
    assert scene.findings() == []
    found = scene.report()
    assert found["measures"]["rto_median_seconds"] == 7.5
    assert [one["level"] for one in found["verifications"]] == ["data", "drill"]
    scene.hours(2)
    assert scene.findings() == [("verification-late", None)]
    scene.hours(8)
    assert scene.findings() == [("verification-late", None), ("drill-late", None)]


def test_never_verified(tmp_path: Path) -> None:
    scene = Scene(tmp_path, promise=VERIFIED)
    scene.hours(8)
    assert scene.findings() == []
    scene.hours(1)
    assert [code for code, _ in scene.findings()] == ["verification-late"]


def test_a_failure_stands_until_as_deep_a_check_is_sound(scene: Scene) -> None:
    first, second = scene.hours(2)
    scene.verify(first, "data", "failed", problems=["it does not decompress"])
    scene.drill(second, outcome="failed")
    scene.verify(first, "manifest")
    assert scene.findings() == [("verification-failed", first), ("drill-failed", second)]
    scene.verify(first)
    scene.drill(second)
    assert scene.findings() == []
    scene.drill(first, outcome="failed")
    scene.hours(8)
    assert first in scene.prune()
    assert scene.findings() == [("drill-failed", first)], "nobody knows better since"


# -- retention -----------------------------------------------------------------------------------------------


def test_a_deletion_that_the_rules_forbade(scene: Scene) -> None:
    scene.hours(8)
    scene.record(
        "prune",
        {
            "phase": "begun",
            "policy": {"keep_last": 6, "min_verified": 1},
            "remove": [{"id": scene.ids[5], "sequence": 6, "reason": "no retention rule keeps it"}],
        },
    )
    for key in scene.folder(scene.ids[5]):
        scene.store.delete(key)
    assert scene.findings() == [("deletion-against-policy", scene.ids[5])]


def test_a_prune_that_was_cut_off_before_its_deeds_is_no_finding(scene: Scene) -> None:
    """What it did not come to is there as before, and counts when the next one judges."""
    oldest, second, *_ = scene.hours(4)
    scene.hold(oldest)
    removing = [{"id": second, "sequence": 2, "reason": "no retention rule keeps it"}]
    scene.record("prune", {"phase": "begun", "policy": {"keep_last": 2}, "remove": removing})
    assert scene.findings(notices=True) == []
    scene.release(oldest)
    scene.to(scene.clock.moment + timedelta(minutes=15))
    assert scene.prune(Policy(keep_last=3)) == [oldest]
    assert scene.findings(notices=True) == []


def test_records_made_to_break_a_parser_are_taken_as_unreadable(scene: Scene) -> None:
    scene.hours(2)
    nested = b"[" * 100_000
    layout = scene.catalog().layout
    for key in (layout.hold(scene.ids[0]), layout.missed(f"{START + 2 * HOUR:%Y%m%dT%H%M%SZ}")):
        scene.store.put(key, nested, create_only=True)
    scene.to(START + 3 * HOUR + timedelta(minutes=15))
    controls = scene.controls()
    (hold,) = scene.report()["holds"]
    assert (hold["id"], hold["reason"]) == (scene.ids[0], None)
    (missed,) = controls["backups.on-schedule"]["findings"]
    assert missed["message"].endswith("the record of it cannot be read")


def test_a_number_that_nothing_accounts_for(scene: Scene) -> None:
    scene.hours(4)
    (announced,) = (key for key in scene.events("backup") if scene.ids[1].encode() in scene.read(key))
    for key in (*scene.folder(scene.ids[1]), announced, announced + ".sig"):
        scene.store.delete(key)
    chain = scene.controls()["chain.unbroken"]
    assert [one["message"] for one in chain["findings"]] == [
        "number 2 of the chain is missing, and no record says that it was deleted"
    ]


def test_what_should_be_gone(tmp_path: Path) -> None:
    schedules = {"backup": parse_schedule(["1h"]), "prune": parse_schedule(["2h"])}
    scene = Scene(tmp_path, promise=replace(PROMISE, schedules=schedules))
    scene.hours(8)
    assert scene.findings() == []
    scene.hours(4)
    assert [code for code, _ in scene.findings()] == ["deletion-overdue"] * 4
    scene.hold(scene.ids[0])
    scene.prune()
    assert scene.findings() == []


def test_deletions_come_with_actor_and_reason(scene: Scene) -> None:
    scene.hours(8)
    gone = scene.prune(Policy(keep_last=7))
    (deletion,) = scene.report()["deletions"]
    assert (deletion["id"], deletion["actor"]) == (gone[0], "node-1")
    assert deletion["reason"] == "no retention rule keeps it"


# -- several repositories ------------------------------------------------------------------------------------


def test_copies(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "one", "two")
    scene.hours(3)
    assert scene.findings() == []
    alone = scene.backup(scene.stores[0])
    assert scene.findings() == [], "it may be on its way"
    scene.to(scene.clock.moment + HOUR)
    scene.backup()
    assert scene.findings() == [("copy-missing", alone)]
    scene.to(scene.clock.moment + HOUR)
    scene.prune(Policy(keep_last=1), number=1)
    assert scene.findings() == [("copy-missing", alone)]


def test_a_repository_that_joined_later_lacks_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "one", "two")
    for _ in range(3):
        scene.backup(scene.stores[0])
        scene.to(scene.clock.moment.replace(minute=0, second=0) + HOUR)
    scene.hours(2)
    assert scene.findings(notices=True) == []


def test_a_repository_that_cannot_be_read_fails_the_report(scene: Scene) -> None:
    scene.hours(2)
    case = scene.case()
    down = History(RepositoryFacts("two", error="connection refused"))
    report = audited(replace(case, histories=(*case.histories, down)))
    readable = report["controls"][0]
    assert (readable["outcome"], readable["findings"][0]["message"]) == ("FAIL", "connection refused")
    assert report["repositories"][1]["error"] == "connection refused"


# -- object lock ---------------------------------------------------------------------------------------------


def test_locks_are_read_from_the_store(scene: Scene) -> None:
    store = scene.store
    assert isinstance(store, MemoryStore)
    first, second = scene.hours(2)
    rule = LockRule("COMPLIANCE", 7)
    for backup_id in (first, second):
        for key in scene.folder(backup_id):
            store.locks[key] = Lock(scene.clock.moment + 7 * DAY, "COMPLIANCE")
    assert scene.findings(lock=rule) == []
    assert scene.controls(lock=rule)["backups.locked"]["outcome"] == "PASS"
    store.locks[scene.object_key(first)] = Lock(scene.clock.moment + 5 * DAY, "COMPLIANCE")
    del store.locks[scene.manifest_key(second)]
    assert scene.findings(lock=rule) == [("lock-short", first), ("lock-missing", second)]
    store.locks[scene.object_key(first)] = Lock(scene.clock.moment + 9 * DAY, "GOVERNANCE")
    store.locks[scene.manifest_key(second)] = Lock(scene.clock.moment + 9 * DAY, None)
    assert scene.findings(lock=rule) == [("lock-weak", first), ("lock-weak", second)]
    assert scene.findings(lock=LockRule("GOVERNANCE", 7)) == []
    scene.to(scene.clock.moment + 8 * DAY)
    assert scene.controls(lock=rule)["backups.locked"]["outcome"] == "NOT-APPLICABLE"


# -- encryption and signatures -------------------------------------------------------------------------------


def test_what_is_stored_in_clear(scene: Scene) -> None:
    scene.hours(1)
    scene.node.options = {"recipients": []}
    scene._revision += 1
    clear = scene.node.backup(scene._revision, *scene.stores).backup.id
    assert ("not-encrypted", clear) in scene.findings()
    by_choice = replace(PROMISE, recipients=())
    assert (
        scene.controls(expectation=Expectation(by_choice))["backups.encrypted"]["outcome"] == "NOT-APPLICABLE"
    )


def test_what_is_foreign_in_the_folder_is_told(scene: Scene) -> None:
    scene.hours(1)
    scene.store.put("prod/README.txt", b"not ours")
    assert scene.findings() == []
    assert scene.findings(notices=True) == [("unknown-object", None)]
