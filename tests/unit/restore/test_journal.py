"""Journals: what was written is there, what was torn was never relied on, and two do not work at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import EtcdGuardError, Locked, UsageError
from etcdguard.restore import host_state, plan_state
from etcdguard.restore.journal import Journal, exclusive, plan_folder
from tests.support.restores import SteppingClock


def _journal(path: Path) -> Journal:
    return Journal(path / "plan" / "host.jsonl", SteppingClock().now)


def test_events_are_appended_privately_and_read_in_order(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    assert journal.events() == ()
    journal.append("staging", plan={"id": 1})
    journal.append("staged")
    assert [event["event"] for event in _journal(tmp_path).events()] == ["staging", "staged"]
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_torn_line_is_passed_over_and_the_next_stands_alone(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.append("staging")
    whole = journal.path.read_bytes()
    for cut in range(1, len(whole)):
        journal.path.write_bytes(whole + whole[:cut].rstrip(b"\n"))
        journal.append("staged")
        names = [event["event"] for event in journal.events()]
        assert names[0] == "staging"
        assert names[-1] == "staged"
        assert len(names) == 2 or cut == len(whole) - 1


def test_a_journal_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "plan").write_text("a file")
    with pytest.raises(EtcdGuardError, match="cannot write"):
        _journal(tmp_path).append("staging")


def test_one_works_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / "lock"
    with (
        exclusive(lock, patience=0, doing="one"),
        pytest.raises(Locked, match="another is at work"),
        exclusive(lock, patience=0.2, doing="another"),
    ):
        raise AssertionError
    with exclusive(lock, patience=0, doing="one"):
        pass


@pytest.mark.parametrize("name", ["", "..", "../x", "20261121T020000Z-9f31c2aa/..", "a b"])
def test_only_plan_ids_become_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        plan_folder(tmp_path, name)


def test_the_state_of_a_host_follows_its_events() -> None:
    events: list[dict[str, Any]] = [
        {"event": "staging"},
        {"event": "staged"},
        {"event": "stopping", "running": {"etcd.service": True}},
        {"event": "stopping", "running": {"etcd.service": False, "kube-apiserver.service": False}},
        {"event": "swapping", "old": {"/var/lib/etcd": True}},
        {"event": "swapped"},
        {"event": "starting"},
        {"event": "proven"},
        {"event": "reopened"},
        {"event": "cleaned"},
        {"event": "of a later version"},
    ]
    states = [host_state.fold(events[:count]) for count in range(len(events) + 1)]
    assert [state.phase for state in states] == [
        *("untouched", "untouched", "staged", "stopped", "stopped", "swapping", "swapped"),
        *("started", "proven", "reopened", "cleaned", "cleaned"),
    ]
    assert states[4].was_running == {"etcd.service": True, "kube-apiserver.service": False}
    assert [state.active for state in states] == [False, *[True] * 8, False, False, False]
    back = host_state.fold(
        [*events[:7], {"event": "rolled-back"}, {"event": "resumed"}, {"event": "discarded"}]
    )
    assert (back.phase, back.active, back.ever_started) == ("untouched", False, True)


def test_the_state_of_a_plan_follows_its_events() -> None:
    at = "2026-11-21T02:00:00+00:00"
    phases: list[dict[str, Any]] = [
        {"event": "begin", "at": at, "phase": phase} for phase in ("stage", "quiesce", "swap")
    ]
    state = plan_state.fold([*phases, {"event": "in-place", "members": [{"name": "m1"}]}])
    assert (state.begun, state.swapping, state.in_place, state.proven) == (True, True, True, False)
    assert state.stopped_at is not None
    rolling = plan_state.fold([*phases, {"event": "in-place", "members": []}, {"event": "rolling-back"}])
    assert (rolling.swapping, rolling.in_place) == (True, False)
    assert plan_state.fold([*phases, {"event": "rolled-back"}]) == plan_state.PlanState(phase="rolled back")


def test_lines_that_are_no_events_are_passed_over(tmp_path: Path) -> None:
    journal = _journal(tmp_path)
    journal.append("staging")
    with journal.path.open("a") as file:
        file.write('[]\n{"event": 7}\n{"no": "event"}\nnull\n')
    journal.append("staged")
    assert [event["event"] for event in journal.events()] == ["staging", "staged"]
