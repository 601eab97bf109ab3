"""Where a restore over hosts stands, told from its journal: each event by itself, and lives of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest

from etcdguard.restore.plan_state import PlanState, fold

AT = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)
LATER = datetime(2026, 11, 21, 2, 5, tzinfo=timezone.utc)
MEMBERS = [{"name": "m1", "member_id": "1"}, {"name": "m2", "member_id": "2"}]

Event = Mapping[str, Any]


def begin(phase: str, at: datetime = AT) -> Event:
    return {"event": "begin", "phase": phase, "at": at.isoformat()}


def told(name: str, **facts: Any) -> Event:
    return {"event": name, **facts}


IN_PLACE = told("in-place", members=MEMBERS)
STARTED = [begin("stage"), begin("quiesce"), begin("swap"), IN_PLACE, begin("start")]


def test_nothing_has_happened_yet() -> None:
    state = fold([])
    assert state == PlanState()
    flags = (state.begun, state.swapping, state.in_place, state.started, state.putting_back)
    assert (state.phase, flags, state.proven, state.finished) == ("", (False,) * 5, False, False)
    assert (state.stopped_at, state.members, state.proof, state.must_go_back) == (None, (), None, False)


@pytest.mark.parametrize(
    ("phase", "changes"),
    [
        ("preflight", {}),
        ("stage", {"begun": True}),
        ("gate", {}),
        ("quiesce", {"stopped_at": AT}),
        ("barrier", {"stopped_at": AT}),
        ("swap", {"swapping": True}),
        ("start", {"started": True}),
        ("prove", {}),
        ("reopen", {}),
        ("record", {}),
    ],
)
def test_what_the_beginning_of_a_phase_means(phase: str, changes: dict[str, Any]) -> None:
    assert fold([begin(phase)]) == replace(PlanState(phase=phase), **changes)


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (IN_PLACE, {"in_place": True, "members": tuple(MEMBERS)}),
        (told("proven", proof={"revision": 7}), {"proven": True, "proof": {"revision": 7}}),
        (told("putting-back"), {"putting_back": True}),
        (told("finished"), {"phase": "finished", "finished": True}),
        (told("of a later version", phase="x"), {}),
    ],
    ids=lambda value: value["event"] if isinstance(value, dict) and "event" in value else None,
)
def test_what_an_event_means(event: Event, changes: dict[str, Any]) -> None:
    assert fold([event]) == replace(PlanState(), **changes)


def test_what_has_happened_once_stays_while_the_phases_go_on() -> None:
    state = fold([*STARTED, begin("prove", LATER)])
    assert (state.phase, state.begun, state.swapping) == ("prove", True, True)
    assert (state.in_place, state.started, state.members) == (True, True, tuple(MEMBERS))
    assert state.stopped_at == AT


@pytest.mark.parametrize("phase", ["quiesce", "barrier"])
def test_the_downtime_counts_from_the_first_stop(phase: str) -> None:
    assert fold([begin("quiesce"), begin(phase, LATER)]).stopped_at == AT


def test_on_the_way_back_directories_are_swapped_until_they_are_put_back() -> None:
    rolling = fold([*STARTED, told("rolling-back")])
    assert (rolling.phase, rolling.in_place, rolling.swapping) == ("rolling back", False, True)
    putting = fold([*STARTED, told("rolling-back"), told("putting-back")])
    assert (putting.swapping, putting.putting_back) == (True, True)
    back = fold([*STARTED, told("rolling-back"), told("putting-back"), told("put-back")])
    assert (back.phase, back.swapping, back.in_place) == ("rolling back", False, False)
    assert back.started


def test_what_is_back_is_as_if_nothing_had_begun() -> None:
    events = [*STARTED, told("rolling-back"), told("putting-back"), told("put-back"), told("rolled-back")]
    assert fold(events) == PlanState(phase="rolled back")
    assert fold([*events, begin("stage")]) == PlanState(phase="stage", begun=True)


@pytest.mark.parametrize(
    ("events", "must"),
    [
        (STARTED, False),
        ([begin("swap"), told("putting-back")], False),
        ([*STARTED, told("putting-back")], True),
        ([*STARTED, told("putting-back"), told("put-back")], True),
        ([*STARTED, told("putting-back"), told("put-back"), told("rolled-back")], False),
    ],
    ids=["it runs", "it never ran", "half back", "back but not at rest", "at rest"],
)
def test_what_ran_and_was_put_back_never_runs_again(events: list[Event], must: bool) -> None:
    assert fold(events).must_go_back is must
