"""Retention: what holds for every policy, the cases that have cost others their backups, golden files.

``python -m tests.unit.retention_golden`` writes the golden files anew after a change that was meant.
"""

from __future__ import annotations

import json
import time as time_of
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.retention import Candidate, Decision, Period, Policy, decide
from tests.unit.retention_golden import GOLDEN, NOW, POLICIES, kept, series

counts = st.integers(0, 6)
periods = st.builds(
    Period,
    years=st.integers(0, 3),
    months=st.integers(0, 30),
    weeks=st.integers(0, 9),
    days=st.integers(0, 400),
    hours=st.integers(0, 99),
)
policies = st.builds(
    Policy,
    keep_last=counts,
    keep_hourly=counts,
    keep_daily=counts,
    keep_weekly=counts,
    keep_monthly=counts,
    keep_yearly=counts,
    keep_within=st.none() | periods.filter(lambda period: period != Period()),
    min_verified=counts,
)


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    """Backups of up to three clusters whose clocks go forward, stand still, jump back or run ahead."""
    found = []
    for number in range(draw(st.integers(0, 25))):
        hours = draw(st.integers(-24 * 900, 30) | st.integers(-60, 2))
        found.append(
            Candidate(
                id=f"backup-{number:03}",
                cluster_id=draw(st.sampled_from("abc")),
                created_at=NOW + timedelta(hours=hours, minutes=draw(st.integers(-59, 59))),
                order=(draw(st.integers(0, 1)), draw(st.integers(1, 40)), number),
                verified=draw(st.booleans()),
                held=draw(st.integers(0, 9)) == 0,
                unjudged=draw(st.sampled_from([*[None] * 9, "unreadable"])),
            )
        )
    return found


def keeps(found: list[Candidate], policy: Policy) -> set[str]:
    return {decision.id for decision in decide(found, policy, NOW) if decision.keep}


def groups(found: list[Candidate]) -> dict[str, list[Candidate]]:
    """What can be read, by cluster, newest first."""
    by_cluster: dict[str, list[Candidate]] = {}
    for one in sorted(found, key=lambda one: (one.order, one.id), reverse=True):
        if one.unjudged is None:
            by_cluster.setdefault(one.cluster_id, []).append(one)
    return by_cluster


@given(candidates(), policies)
def test_what_must_never_go_stays(found: list[Candidate], policy: Policy) -> None:
    kept = keeps(found, policy)
    assert {one.id for one in found if one.held or one.unjudged} <= kept
    assert {one.id for one in found if one.created_at > NOW + timedelta(minutes=5)} <= kept
    for group in groups(found).values():
        assert group[0].id in kept
        verified = [one.id for one in group if one.verified]
        assert set(verified[: max(1, policy.min_verified)]) <= kept
        assert len(kept & {one.id for one in group}) >= min(len(group), policy.keep_last)


@given(candidates(), policies)
def test_every_candidate_gets_one_decision(found: list[Candidate], policy: Policy) -> None:
    decided = [decision.id for decision in decide(found, policy, NOW)]
    assert sorted(decided) == sorted(one.id for one in found)


@given(candidates(), policies, st.randoms(use_true_random=False))
def test_the_order_in_which_they_are_listed_does_not_matter(
    found: list[Candidate], policy: Policy, random: object
) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decide(shuffled, policy, NOW) == decide(found, policy, NOW)


@given(candidates(), policies)
def test_what_was_kept_is_kept_again_once_the_rest_is_gone(found: list[Candidate], policy: Policy) -> None:
    kept = keeps(found, policy)
    assert keeps([one for one in found if one.id in kept], policy) == kept


@given(
    candidates(),
    policies,
    st.sampled_from([name for name in Policy.__dataclass_fields__ if name != "keep_within"]),
    st.integers(1, 5),
)
def test_a_larger_number_never_keeps_less(
    found: list[Candidate], policy: Policy, name: str, more: int
) -> None:
    larger = replace(policy, **{name: getattr(policy, name) + more})
    if not policy.keeps_all:
        assert keeps(found, policy) <= keeps(found, larger)


@given(candidates(), policies, periods.filter(lambda period: period != Period()), st.integers(1, 500))
def test_a_longer_period_never_keeps_less(
    found: list[Candidate], policy: Policy, period: Period, more: int
) -> None:
    shorter = replace(policy, keep_within=period)
    longer = replace(policy, keep_within=replace(period, days=period.days + more))
    assert keeps(found, shorter) <= keeps(found, longer)


@given(candidates(), policies)
def test_clusters_do_not_touch_each_other(found: list[Candidate], policy: Policy) -> None:
    apart: list[Decision] = []
    for name in "abc":
        apart += decide([one for one in found if one.cluster_id == name], policy, NOW)
    assert set(apart) == set(decide(found, policy, NOW))


@given(candidates())
def test_without_a_rule_nothing_goes(found: list[Candidate]) -> None:
    assert keeps(found, Policy()) == {one.id for one in found}


def test_the_newest_by_name_or_clock_is_not_the_newest() -> None:
    """After a restore, or with a clock that was ahead: the chain says what is newest, nothing else does."""
    backups = [
        Candidate("z-by-name", "c", NOW - timedelta(hours=1), (0, 900, 1)),
        Candidate("a-newest", "c", NOW - timedelta(hours=9), (1, 20, 2)),
    ]
    assert keeps(backups, Policy(keep_last=1)) == {"a-newest"}


def test_a_date_in_the_future_takes_no_place() -> None:
    backups = [
        Candidate("true", "c", NOW - timedelta(hours=1), (0, 1, 1)),
        Candidate("future", "c", NOW + timedelta(days=400), (0, 2, 2)),
    ]
    decisions = {one.id: one.reasons for one in decide(backups, Policy(keep_yearly=1), NOW)}
    assert decisions == {"future": ("dated in the future", "newest"), "true": ("yearly 1 of 1",)}


def test_nothing_runs_out_while_no_backups_are_made() -> None:
    old = [Candidate(str(n), "c", NOW - timedelta(days=400 + n), (0, 9 - n, 9 - n)) for n in range(5)]
    assert keeps(old, Policy(keep_within=Period(days=2))) == {"0", "1", "2"}


def test_the_newest_verified_one_stays_though_the_policy_wants_none() -> None:
    backups = [
        Candidate(str(n), "c", NOW - timedelta(days=n), (0, 9 - n, 9 - n), verified=n in (3, 5))
        for n in range(7)
    ]
    assert keeps(backups, Policy(keep_last=1, min_verified=0)) == {"0", "3"}


def test_a_week_belongs_to_one_year() -> None:
    days = [date(2024, 1, 2), date(2024, 12, 29), date(2024, 12, 31), date(2025, 1, 1)]
    backups = [
        Candidate(f"{day:%m-%d}", "c", datetime.combine(day, time(), timezone.utc), (0, n, n))
        for n, day in enumerate(days)
    ]
    assert keeps(backups, Policy(keep_weekly=9)) == {"01-01", "12-29", "01-02"}


@pytest.mark.parametrize(
    ("text", "moment", "before"),
    [
        ("1m", "2026-03-31T12:00", "2026-02-28T12:00"),
        ("1y", "2024-02-29T00:00", "2023-02-28T00:00"),
        ("2y5m7d3h", "2026-11-21T01:30", "2024-06-13T22:30"),
        ("1w", "2026-01-03T00:00", "2025-12-27T00:00"),
        ("9999y", "2026-01-03T00:00", "0001-01-01T00:00"),
    ],
)
def test_periods_go_by_the_calendar(text: str, moment: str, before: str) -> None:
    def at(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)

    assert Period.parse(text).before(at(moment)) == at(before)


@given(periods.filter(lambda period: period != Period()))
def test_a_period_reads_as_it_is_written(period: Period) -> None:
    assert Period.parse(str(period)) == period


@pytest.mark.parametrize("text", ["", "0d", "5", "d", "3h2d", "1.5d", "-1d", "1d ", "1M", "30s", "²d"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a period"):
        Period.parse(text)


def test_before_the_calendar_begins_is_its_first_moment_in_the_same_zone() -> None:
    first = datetime(1, 1, 1, tzinfo=timezone.utc)
    for text in ("2026y", "9999y", "24312m", "999999d"):
        assert Period.parse(text).before(datetime(2026, 1, 3, tzinfo=timezone.utc)) == first
    assert Period.parse("2025y").before(datetime(2026, 1, 3, tzinfo=timezone.utc)) == first.replace(day=3)


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("1y2m3w4d5h", Period(1, 2, 3, 4, 5)),
        ("9999y", Period(years=9999)),
        ("99999m", Period(months=99999)),
        ("99999w", Period(weeks=99999)),
        ("999999d", Period(days=999_999)),
        ("9999999h", Period(hours=9_999_999)),
        ("0y1h", Period(hours=1)),
    ],
)
def test_what_the_units_mean(text: str, period: Period) -> None:
    assert Period.parse(text) == period


@pytest.mark.parametrize("text", ["10000y", "100000m", "100000w", "1000000d", "10000000h"])
def test_periods_have_an_end(text: str) -> None:
    with pytest.raises(ValueError, match=f"^not a period: '{text}'$"):
        Period.parse(text)


def test_what_is_not_set_is_not_written() -> None:
    assert str(Period(years=2, hours=3)) == "2y3h"
    assert Policy().facts == {"min_verified": 1}
    policy = Policy(keep_daily=7, keep_within=Period(days=2), min_verified=0)
    assert policy.facts == {"keep_daily": 7, "keep_within": "2d"}


@given(policies.filter(lambda policy: policy.min_verified > 0))
def test_a_policy_reads_as_the_audit_trail_has_it(policy: Policy) -> None:
    assert Policy.from_facts(policy.facts) == policy


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"keep_within": "soon"}, ValueError),
        ({"keep_within": 7}, TypeError),
        ({"keep_forever": 1}, TypeError),
    ],
)
def test_facts_that_no_policy_has_said(facts: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        Policy.from_facts(facts)


@pytest.mark.parametrize(
    ("policy", "all_of_them"),
    [
        (Policy(), True),
        (Policy(min_verified=5), True),
        (Policy(keep_within=Period(hours=1)), False),
        (Policy(keep_last=1), False),
        (Policy(keep_hourly=1), False),
        (Policy(keep_daily=1), False),
        (Policy(keep_weekly=1), False),
        (Policy(keep_monthly=1), False),
        (Policy(keep_yearly=1), False),
    ],
    ids=str,
)
def test_only_a_policy_without_a_rule_keeps_all(policy: Policy, all_of_them: bool) -> None:
    assert policy.keeps_all is all_of_them


def test_clocks_may_be_five_minutes_apart() -> None:
    """So far ahead is still now; one microsecond more is the future, and takes nobody's place."""
    now, ahead = NOW + timedelta(minutes=5), NOW + timedelta(minutes=5, microseconds=1)
    backups = [
        Candidate("old", "c", NOW - timedelta(days=400), (0, 1, 1)),
        Candidate("now", "c", now, (0, 2, 2)),
        Candidate("ahead", "c", ahead, (0, 3, 3)),
    ]
    decisions = {one.id: one.reasons for one in decide(backups, Policy(keep_yearly=1), NOW)}
    assert decisions == {
        "ahead": ("dated in the future", "newest"),
        "now": ("yearly 1 of 1",),
        "old": (),
    }


def test_every_reason_that_keeps_a_backup_is_given() -> None:
    backups = [
        Candidate("held", "c", NOW, (0, 4, 4), verified=True, held=True),
        Candidate("plain", "c", NOW - timedelta(hours=1), (0, 3, 3)),
        Candidate("unread", "c", NOW, (0, 2, 2), held=True, unjudged="another format"),
        Candidate("other", "b", NOW, (0, 1, 1)),
    ]
    policy = Policy(keep_last=2, keep_hourly=1, keep_within=Period(hours=1))
    assert decide(backups, policy, NOW) == [
        Decision("unread", ("another format",)),
        Decision("other", ("newest", "last 1 of 2", "hourly 1 of 1", "within 1h")),
        Decision(
            "held",
            ("on hold", "newest", "newest verified", "last 1 of 2", "hourly 1 of 1", "within 1h"),
        ),
        Decision("plain", ("last 2 of 2", "within 1h")),
    ]
    assert [one.reasons for one in decide(backups[1:2], Policy(), NOW)] == [("newest", "no rule removes it")]


def test_a_backup_falls_into_the_hour_and_day_of_utc() -> None:
    """23:30 in New York is of the next day, whatever zone its writer lived in."""
    zone = timezone(timedelta(hours=-5))
    backups = [
        Candidate("evening", "c", datetime(2026, 11, 20, 23, 30, tzinfo=zone), (0, 2, 2)),
        Candidate("noon", "c", datetime(2026, 11, 20, 12, 30, tzinfo=zone), (0, 1, 1)),
        Candidate("before", "c", datetime(2026, 11, 20, 12, 5, tzinfo=zone), (0, 0, 0)),
        Candidate("morning", "c", datetime(2026, 11, 20, 7, 45, tzinfo=zone), (0, 0, -1)),
    ]
    assert keeps(backups, Policy(keep_hourly=3)) == {"evening", "noon", "morning"}
    assert keeps(backups, Policy(keep_daily=3)) == {"evening", "noon"}
    assert keeps(backups, Policy(keep_monthly=2)) == {"evening"}


def test_what_goes_does_not_depend_on_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes in different zones that prune one repository must not add up their choices."""
    backups = [
        Candidate("night", "c", datetime(2026, 11, 20, 0, 30, tzinfo=timezone.utc), (0, 2, 2)),
        Candidate("evening", "c", datetime(2026, 11, 19, 23, 30, tzinfo=timezone.utc), (0, 1, 1)),
    ]
    with monkeypatch.context() as west:
        west.setenv("TZ", "Etc/GMT+12")
        time_of.tzset()
        kept = keeps(backups, Policy(keep_daily=2))
    time_of.tzset()
    assert kept == {"night", "evening"}


def test_there_are_golden_files_for_every_policy() -> None:
    assert len(POLICIES) >= 40
    assert {path.stem for path in GOLDEN.iterdir()} == set(POLICIES)


@pytest.mark.parametrize("name", POLICIES)
def test_golden(name: str) -> None:
    assert kept(series(), POLICIES[name]) == json.loads((GOLDEN / f"{name}.json").read_text())
