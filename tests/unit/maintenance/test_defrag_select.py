"""Which members are worth it, in which order, and to whom the leader hands over."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.facts import MIB, History, MemberFacts, Policy, fragmentation
from etcdguard.maintenance.defrag.select import Decision, choose, decide, in_order, successor
from tests.support.defrag_facts import GIB, NOW, facts, survey

POLICY = Policy()
HOUR = timedelta(hours=1)


def arm(one: MemberFacts, *, nospace: bool = False, hours_ago: float | None = None) -> str | None:
    last = None if hours_ago is None else NOW - hours_ago * HOUR
    return decide(one, POLICY, nospace=nospace, last=last, now=NOW).arm


def sized(size: float, in_use: float, quota: float | None = 2048) -> MemberFacts:
    """In MiB."""
    return facts(
        db_size=int(size * MIB),
        db_size_in_use=int(in_use * MIB),
        quota=None if quota is None else int(quota * MIB),
    )


@pytest.mark.parametrize(
    ("size", "in_use", "quota", "wanted"),
    [
        (400, 100, 2048, "fragmentation"),
        (400, 220, 2048, "fragmentation"),  # just 45 %
        (400, 221, 2048, None),
        (99, 1, 2048, None),  # too small a database
        (200, 101, 2048, None),  # too little to gain
        (200, 100, 2048, "fragmentation"),
        (1700, 1400, 2048, "quota"),  # 83 % of the quota, 300 MiB free
        (1700, 1500, 2048, None),  # less than 10 % of the quota to gain
        (1600, 1300, 2048, None),  # 78 %
        (1700, 1400, None, None),  # nobody knows the quota
        (1700, 1400, -1 / MIB, None),  # there is none
        (500, 390, 600, "quota"),  # 10 % would be 60 MiB, but the floor is 100
        (500, 410, 600, None),
    ],
)
def test_the_thresholds(size: float, in_use: float, quota: float | None, wanted: str | None) -> None:
    assert arm(sized(size, in_use, quota)) == wanted


def test_once_a_day_but_for_the_quotas_sake() -> None:
    assert arm(sized(400, 100), hours_ago=23.9) is None
    assert arm(sized(400, 100), hours_ago=24) == "fragmentation"
    assert arm(sized(1700, 1400), hours_ago=1) == "quota"


@pytest.mark.parametrize(
    ("size", "in_use", "quota", "wanted"),
    [
        (8, 8, 10, "nospace"),  # near the quota, whatever is free
        (5, 1, 10, "nospace"),
        (5, 4, 10, None),  # has room already
        (5, 5, None, "nospace"),  # nobody knows
    ],
)
def test_without_space_the_floors_do_not_count(
    size: float, in_use: float, quota: float | None, wanted: str | None
) -> None:
    assert arm(sized(size, in_use, quota), nospace=True, hours_ago=1) == wanted


def test_what_is_not_known_is_not_judged() -> None:
    learner = facts(learner=True)
    for one in (replace(facts(), status=None), facts(db_size_in_use=None), learner):
        for nospace in (False, True):
            assert arm(one, nospace=nospace) is None


sizes = st.integers(0, 16 * GIB)


@given(
    size=sizes, in_use=sizes, quota=st.none() | st.integers(-1, 16 * GIB), hours=st.none() | st.floats(0, 99)
)
def test_whoever_is_chosen_has_enough_to_gain(
    size: int, in_use: int, quota: int | None, hours: float | None
) -> None:
    one = facts(db_size=size, db_size_in_use=in_use, quota=quota)
    chosen = arm(one, hours_ago=hours)
    assert one.status is not None
    free, share = fragmentation(one.status)
    assert 0 <= share <= 1
    if chosen is not None:
        assert size >= POLICY.min_size
        assert free >= POLICY.min_free
        assert chosen == "quota" or (share >= POLICY.fragmentation and (hours is None or hours >= 24))
        assert chosen == "fragmentation" or (quota is not None and size >= 0.8 * quota > 0)
    assert arm(replace(one, quota=None), hours_ago=hours) in (None, "fragmentation"), "no quota, no quota arm"


@given(st.permutations(range(1, 6)), st.lists(st.integers(1, 99), min_size=5, max_size=5), st.integers(1, 5))
def test_followers_first_the_most_fragmented_of_them_first(
    numbers: list[int], in_use: list[int], leader: int
) -> None:
    members = [facts(n, db_size=400 * MIB, db_size_in_use=in_use[n - 1] * MIB) for n in numbers]
    ordered = in_order([Decision(one, "fragmentation", "") for one in members], f"a{leader}")
    ids = [one.member.id for one in ordered]
    assert sorted(ids) == [f"a{n}" for n in range(1, 6)]
    assert ids[-1] == f"a{leader}"
    used = [in_use[int(name[1:]) - 1] for name in ids[:-1]]
    assert used == sorted(used)
    assert ids == [one.member.id for one in in_order(reversed(ordered), f"a{leader}")], "the same every time"


def test_every_member_gets_a_decision_and_a_reason() -> None:
    small = facts(2, db_size=MIB)
    cluster = survey([facts(1), small, facts(3)])
    decisions = choose(cluster, POLICY, History({"a3": NOW - HOUR}), NOW)
    assert [(one.member.id, one.chosen) for one in decisions] == [("a1", True), ("a2", False), ("a3", False)]
    assert "smaller than 100.0 MiB" in decisions[1].reason
    assert "2026-11-21T11:00:00" in decisions[2].reason


def test_the_alarm_reaches_every_decision() -> None:
    full = [facts(n, db_size=9, db_size_in_use=9, quota=10) for n in (1, 2, 3)]
    alarmed = survey(full, [Alarm("a2", "NOSPACE")])
    assert [one.arm for one in choose(alarmed, POLICY, History({}), NOW)] == ["nospace"] * 3


def test_the_leader_hands_over_to_who_was_defragmented_and_is_up_to_date() -> None:
    behind = facts(2, raft_applied_index=4990)
    cluster = survey([facts(1), behind, facts(3)])
    assert _id(successor(cluster, "a1", [])) == "a3"
    assert _id(successor(cluster, "a1", ["a2"])) == "a2"
    silent = replace(facts(3), failure="gone")
    assert _id(successor(survey([facts(1), behind, silent]), "a1", ["a3"])) == "a2"
    assert successor(survey([facts(1)]), "a1", []) is None
    assert successor(survey([facts(1), facts(2, learner=True)]), "a1", []) is None


def _id(one: MemberFacts | None) -> str | None:
    return None if one is None else one.id
