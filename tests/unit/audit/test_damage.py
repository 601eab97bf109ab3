"""What is missing, changed, doubled or unreadable, each with the finding that tells it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdguard.audit.case import Expectation
from etcdguard.audit.promise import Promise
from etcdguard.errors import UsageError
from etcdguard.retention import Policy
from etcdguard.slots import parse_schedule
from tests.support.backups import SIGNER, START
from tests.unit.audit.scenes import DAY, HOUR, PROMISE, Scene


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def messages(scene: Scene, control: str, **arguments: Any) -> list[tuple[str, str]]:
    return [(one["code"], one["message"]) for one in scene.controls(**arguments)[control]["findings"]]


# -- the chain of manifests ----------------------------------------------------------------------------------


def test_a_manifest_that_names_none_before_it(scene: Scene) -> None:
    first, second, _ = scene.hours(3)
    scene.rewrite(scene.manifest_key(first), {"previous": None})
    assert messages(scene, "chain.unbroken") == [], "nothing comes before number 1"
    scene.rewrite(scene.manifest_key(second), {"previous": None})
    assert ("chain-broken", "it is number 2 and names no manifest before it") in messages(
        scene, "chain.unbroken"
    )


def test_two_backups_of_one_number_are_a_notice(scene: Scene) -> None:
    _, second, third = scene.hours(3)
    scene.rewrite(scene.manifest_key(third), {"sequence": 2})
    (fork,) = (one for one in scene.controls()["chain.unbroken"]["findings"] if one["code"] == "chain-forked")
    assert fork["message"] == f"number 2 was given to 2 backups: {second}, {third}"
    assert (fork["severity"], fork["backup"]) == ("notice", third)


def test_a_damaged_manifest_accounts_for_one_number(scene: Scene) -> None:
    """Nobody announced it, so it cannot tell which number it had."""
    ids = scene.hours(5)
    for key in scene.events("backup"):
        scene.store.delete(key)
        scene.store.delete(key + ".sig")
    scene.store.put(scene.manifest_key(ids[1]), b"{}")
    assert messages(scene, "chain.unbroken") == []
    for key in scene.folder(ids[2]):
        scene.store.delete(key)
    assert [code for code, _ in messages(scene, "chain.unbroken")] == ["sequence-missing"]


def test_many_missing_numbers_are_told_in_one_line_beyond_a_hundred(scene: Scene) -> None:
    _, last = scene.hours(2)
    scene.rewrite(scene.manifest_key(last), {"sequence": 134})
    (announced,) = (key for key in scene.events("backup") if last.encode() in scene.read(key))
    scene.rewrite(announced, {"sequence": 134})
    found = [one for one in messages(scene, "chain.unbroken") if one[0] == "sequence-missing"]
    assert len(found) == 101
    assert found[0][1].startswith("number 2 of the chain is missing")
    assert found[-1][1] == "32 more numbers up to 133 are missing"


def test_a_backup_nobody_announced_and_nobody_can_read_has_no_order(scene: Scene) -> None:
    (only,) = scene.hours(1)
    (history,) = scene.case().histories
    assert history.known[only].order is not None
    scene.store.put(scene.manifest_key(only), b"{}")
    (announced,) = scene.events("backup")
    (history,) = scene.case().histories
    assert history.known[only].order is not None, "as it was announced"
    scene.store.delete(announced)
    (history,) = scene.case().histories
    assert history.known[only].order is None


# -- signatures and copies -----------------------------------------------------------------------------------


def test_unsigned_backups_are_a_finding_only_where_they_must_be_signed(scene: Scene) -> None:
    (only,) = scene.hours(1)
    scene.store.delete(scene.manifest_key(only) + ".sig")
    assert messages(scene, "backups.signed") == [("signature-missing", "the manifest is not signed")]
    by_choice = scene.controls(expectation=Expectation(PROMISE))["backups.signed"]
    assert (by_choice["outcome"], by_choice["findings"]) == ("NOT-APPLICABLE", [])
    assert by_choice["summary"] == "none is signed by a trusted signer"


def test_copies_that_differ(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "one", "two")
    _, second = scene.hours(2)
    assert messages(scene, "backups.copied") == []
    scene.rewrite(scene.manifest_key(second), {"sequence": 7})
    (found,) = scene.controls()["backups.copied"]["findings"]
    assert (found["code"], found["backup"], found["integrity"]) == ("copy-differs", second, True)
    assert found["message"] == "the repositories hold different manifests of this backup"


def test_an_empty_repository_lacks_everything(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "one", "two")
    made = [scene.backup(scene.stores[0])]
    scene.to(scene.clock.moment + HOUR)
    made.append(scene.backup(scene.stores[0]))
    found = scene.controls()["backups.copied"]
    assert [(one["code"], one["backup"], one["repository"]) for one in found["findings"]] == [
        ("copy-missing", one, "two") for one in made
    ]
    assert found["summary"] == "0 of 2 backups are in all 2 repositories"


def test_a_repository_that_got_another_backup_of_the_slot_first_lacks_none(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "one", "two")
    scene.hours(1)
    scene.backup(scene.stores[0])
    scene.to(scene.clock.moment + timedelta(minutes=1))
    scene.backup(scene.stores[1])
    scene.to(scene.clock.moment + timedelta(minutes=30))
    assert messages(scene, "backups.copied") == []


# -- records -------------------------------------------------------------------------------------------------


def test_an_event_of_a_newer_version_is_a_notice(scene: Scene) -> None:
    scene.hours(1)
    event = json.loads(scene.read(scene.events("backup")[0])) | {"format": "etcdguard-event/99"}
    raw = json.dumps(event).encode()
    scene.store.put(scene.events("backup")[0] + ".sig", SIGNER.sign(raw))
    scene.store.put(scene.events("backup")[0], raw)
    (found,) = scene.controls()["trail.complete"]["findings"]
    assert (found["code"], found["severity"]) == ("event-unknown", "notice")
    assert found["message"] == "it is in a format that this version does not know"


def test_a_prune_by_rules_that_this_version_does_not_know_is_not_judged(scene: Scene) -> None:
    ids = scene.hours(3)
    removing = [{"id": ids[2], "sequence": 3, "reason": "no retention rule keeps it"}]
    rules = {"keep_last": 3, "keep_full_moons": 4}
    scene.record("prune", {"phase": "begun", "policy": rules, "remove": removing})
    for key in scene.folder(ids[2]):
        scene.store.delete(key)
    assert messages(scene, "retention.kept-to") == []
    assert "1 deletion in the period" in scene.controls()["retention.kept-to"]["summary"]
    before = scene.controls(start=scene.clock.moment + HOUR)["retention.kept-to"]["summary"]
    assert "0 deletions in the period" in before, "that prune was earlier"


def test_a_prune_is_not_blamed_for_what_came_after_it_had_looked(scene: Scene) -> None:
    """It planned; then what it was to remove was put on hold, or verified; then it said so."""
    ids = scene.hours(3)
    scene.hold(ids[0])
    scene.record(
        "prune",
        {
            "phase": "begun",
            "policy": {"keep_last": 2},
            "remove": [{"id": ids[0], "sequence": 1, "reason": "no retention rule keeps it"}],
        },
    )
    assert messages(scene, "retention.kept-to") == []


def test_what_a_prune_left_after_all_is_not_deleted(scene: Scene) -> None:
    first, second, *_ = scene.hours(4)
    removing = [
        {"id": one, "sequence": number, "reason": "no retention rule keeps it"}
        for number, one in enumerate((first, second), 1)
    ]
    scene.record("prune", {"phase": "begun", "policy": {"keep_last": 2}, "remove": removing})
    (history,) = scene.case().histories
    assert [history.known[one].deletion is None for one in (first, second)] == [False, False]
    strange = START.strftime("%Y%m%dT%H%M%SZ-00000000")
    scene.record("prune", {"phase": "ended", "stayed": [first, strange]})
    (history,) = scene.case().histories
    assert [history.known[one].deletion is None for one in (first, second)] == [True, False]
    assert strange not in history.known
    assert [one.removed for one in history.prunes] == [(first, second)], "the end of one is no second one"


def test_a_deleted_backup_that_has_come_back(scene: Scene) -> None:
    first, *_ = scene.hours(3)
    copy = scene.folder(first)
    assert scene.prune(Policy(keep_last=2)) == [first]
    assert messages(scene, "deletions.recorded") == []
    for key, data in copy.items():
        scene.store.put(key, data)
    (found,) = scene.controls()["deletions.recorded"]["findings"]
    assert (found["code"], found["backup"], found["integrity"]) == ("backup-returned", first, True)
    assert found["message"] == "it was deleted by node-1 and has come back: an old copy was put there"


def test_a_hold_that_is_gone_and_one_whose_backup_is_gone(scene: Scene) -> None:
    first, second, third = scene.hours(3)
    for one in (first, second, third):
        scene.hold(one)
    scene.release(third)
    assert messages(scene, "holds.kept") == []
    scene.store.delete(scene.catalog().layout.hold(first))
    for key in scene.folder(second):
        scene.store.delete(key)
    found = scene.controls()["holds.kept"]["findings"]
    assert [(one["code"], one["backup"], one["integrity"]) for one in found] == [
        ("held-backup-missing", second, True),
        ("hold-missing", first, True),
    ]
    assert found[1]["message"] == "the hold that ann put on it is gone, and no record says so"


def test_a_verification_that_was_not_carried_out_tells_nothing(scene: Scene) -> None:
    first, _ = scene.hours(2)
    scene.verify(first, outcome="skipped")
    scene.verify(first, outcome="ok")
    (history,) = scene.case().histories
    assert [(one.backup, one.sound) for one in history.checks] == [(first, True)]


def test_a_promise_that_cannot_be_read_is_none(scene: Scene) -> None:
    facts = PROMISE.facts
    assert Promise.from_facts(facts) == PROMISE
    for wrong in (
        {},
        {**facts, "schedules": {"backup": ["whenever"]}},
        {**facts, "retention": {"keep_full_moons": 4}},
        {**facts, "schedules": None},
    ):
        assert Promise.from_facts(wrong) is None
    scene.hours(1)
    scene.record("backup", {"id": scene.ids[0], "policy": {"schedules": "?"}})
    (history,) = scene.case().histories
    assert len(history.promised) == 1


def test_a_backup_that_cannot_be_believed_is_never_overdue(tmp_path: Path) -> None:
    schedules = {"backup": parse_schedule(["1h"]), "prune": parse_schedule(["2h"])}
    scene = Scene(tmp_path, promise=replace(PROMISE, schedules=schedules, retention=Policy(keep_last=2)))
    ids = scene.hours(6)
    overdue = [one["backup"] for one in scene.controls()["retention.kept-to"]["findings"]]
    assert overdue[:2] == ids[:2]
    scene.store.put(scene.manifest_key(ids[0]), b"{}")
    scene.store.delete(scene.manifest_key(ids[1]) + ".sig")
    left = [one["backup"] for one in scene.controls()["retention.kept-to"]["findings"]]
    assert left == overdue[2:]


def test_a_period_with_too_many_slots_to_judge_is_refused(tmp_path: Path) -> None:
    scene = Scene(tmp_path, promise=replace(PROMISE, schedules={"backup": parse_schedule(["1m"])}))
    scene.backup()
    scene.to(START + 70 * DAY)
    with pytest.raises(UsageError) as caught:
        scene.case().slots("backup")
    assert caught.value.message == "the period has more than 100000 slots of the schedule"
    assert "shorter period" in caught.value.hint
