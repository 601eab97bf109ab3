"""Schedules: what is refused, and which slots they have around changes of the clock."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo, reset_tzpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.slots import BadSchedule, Schedule, parse_schedule, slot_id, slot_time

UTC = timezone.utc
SCHEDULES = [
    ["1h"],
    ["7m"],
    ["90s"],
    ["daily at 02:30 Europe/Berlin"],
    ["daily at 01:59:59, 02:00, 02:30, 03:00 America/New_York"],
    ["mon,thu at 00:30 Australia/Lord_Howe"],
    ["sun at 02:15 Europe/London", "1d"],
    ["daily at 23:59 America/St_Johns", "6h jitter 10m"],
    ["daily at 00:00 America/Sao_Paulo"],
]
MOMENTS = st.integers(1_420_070_400, 2_051_222_400).map(lambda one: datetime.fromtimestamp(one, UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def walk(schedule: Schedule, start: datetime, count: int) -> list[str]:
    found, now = [], start
    for _ in range(count):
        now = schedule.next(now)
        found.append(now.isoformat(sep=" ", timespec="minutes")[:16])
    return found


@given(st.sampled_from(SCHEDULES), MOMENTS)
def test_latest_and_next_enclose_now_and_know_each_other(texts: list[str], now: datetime) -> None:
    schedule = parse_schedule(texts)
    before, after = schedule.latest(now), schedule.next(now)
    assert before <= now < after
    assert schedule.next(before) == after
    assert schedule.latest(after) == after
    assert schedule.latest(after - timedelta(microseconds=1)) == before
    assert slot_time(slot_id(before)) == before


@given(st.sampled_from(SCHEDULES), MOMENTS, st.integers(0, 10**6))
def test_what_a_node_saw_before_makes_no_difference(texts: list[str], now: datetime, seconds: int) -> None:
    schedule = parse_schedule(texts)
    walked = now - timedelta(seconds=seconds % (20 * 86400))
    for _ in range(3000):
        if schedule.next(walked) > now:
            break
        walked = schedule.next(walked)
    else:
        return
    assert schedule.latest(now) == schedule.latest(walked)


def test_an_interval_counts_from_1970() -> None:
    schedule = parse_schedule(["6h"])
    assert walk(schedule, at("2026-03-29T05:59:59"), 2) == ["2026-03-29 06:00", "2026-03-29 12:00"]
    assert schedule.latest(at("2026-03-29T06:00:00")) == at("2026-03-29T06:00:00")


def test_a_skipped_time_is_due_once_at_the_end_of_the_gap() -> None:
    schedule = parse_schedule(["daily at 02:30 Europe/Berlin"])
    # 2026-03-29: 02:00 CET becomes 03:00 CEST, which is 01:00 UTC.
    assert walk(schedule, at("2026-03-27T12:00:00"), 3) == [
        "2026-03-28 01:30",
        "2026-03-29 01:00",
        "2026-03-30 00:30",
    ]


def test_several_skipped_times_are_one_slot() -> None:
    schedule = parse_schedule(["daily at 02:00, 02:15, 02:45, 03:00 Europe/Berlin"])
    assert walk(schedule, at("2026-03-28T12:00:00"), 2) == ["2026-03-29 01:00", "2026-03-30 00:00"]


def test_a_doubled_time_is_due_once_the_first_time() -> None:
    schedule = parse_schedule(["daily at 02:30 Europe/Berlin"])
    # 2026-10-25: 02:30 CEST is 00:30 UTC, 02:30 CET is 01:30 UTC.
    assert walk(schedule, at("2026-10-24T12:00:00"), 2) == ["2026-10-25 00:30", "2026-10-26 01:30"]


def test_a_gap_of_half_an_hour_and_a_skipped_day() -> None:
    assert walk(parse_schedule(["daily at 02:15 Australia/Lord_Howe"]), at("2026-10-03T12:00:00"), 2) == [
        "2026-10-03 15:30",  # 02:00 to 02:30
        "2026-10-04 15:15",
    ]
    apia = walk(parse_schedule(["daily at 12:00 Pacific/Apia"]), at("2011-12-29T00:00:00"), 3)
    # 30 December 2011 did not exist there: due where it ended, at midnight of the 31st.
    assert apia == ["2011-12-29 22:00", "2011-12-30 10:00", "2011-12-30 22:00"]


@pytest.mark.parametrize("year", range(2020, 2031))
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
def test_a_daily_job_is_due_once_each_day_of_the_year(zone: str, year: int) -> None:
    schedule = parse_schedule([f"daily at 02:30 {zone}"])
    local = ZoneInfo(zone)
    start = datetime(year, 1, 1, tzinfo=local)
    slots = schedule.between(start, datetime(year + 1, 1, 1, tzinfo=local), most=1000)
    days = [slot.astimezone(local).date() for slot in slots]
    assert days == sorted(set(days))
    assert len(days) == (366 if year % 4 == 0 else 365)


def test_days_of_the_week_are_local() -> None:
    schedule = parse_schedule(["mon at 00:30 Asia/Tokyo"])
    assert walk(schedule, at("2026-11-21T00:00:00"), 1) == ["2026-11-22 15:30"]  # Sunday in UTC


def test_the_newest_of_too_many_slots_between() -> None:
    schedule = parse_schedule(["1s"])
    now = at("2026-01-01T00:00:00")
    assert schedule.between(now - timedelta(hours=1), now, most=2) == [now - timedelta(seconds=1), now]
    assert schedule.between(now, now, most=2) == []


def test_jitter_delays_less_than_it_says_and_the_same_everywhere() -> None:
    schedule = parse_schedule(["1h jitter 10m"])
    slots = schedule.between(at("2026-01-01T00:00:00"), at("2026-01-11T00:00:00"), most=1000)
    delays = [schedule.delay(slot, "prod backup") for slot in slots]
    assert all(timedelta() <= delay < timedelta(minutes=10) for delay in delays)
    assert len(set(delays)) == len(slots)
    assert delays == [schedule.delay(slot, "prod backup") for slot in slots]
    assert delays != [schedule.delay(slot, "test backup") for slot in slots]
    assert not parse_schedule(["1h"]).delay(slots[0], "prod backup")


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ([], "without a time"),
        ([""], "not an interval"),
        (["0s"], "at least one second"),
        (["500ms"], "whole seconds"),
        (["400d"], "at most 366 days"),
        (["soon"], "not an interval"),
        (["daily"], "not an interval"),
        (["daily at"], "not a schedule"),
        (["daily at 24:00"], "not a time of day: '24:00'"),
        (["daily at 2:30"], "not a time of day"),
        (["daily at 02:60"], "not a time of day"),
        (["daily at 02:30, 02:30"], "a time of day is given twice"),
        (["daily at 02:30 Europe/Berlim"], "unknown time zone 'Europe/Berlim'"),
        (["daily at 02:30 ../../etc/passwd"], "not a schedule"),
        (["someday at 02:30"], "not a day of the week: 'someday'"),
        (["mon,mon at 02:30"], "a day is given twice"),
        (["1h", "60m"], "the same times are given twice"),
        (["1h jitter 1h"], "the jitter is not shorter"),
        (["daily at 02:00, 02:05 jitter 6m"], "the jitter is not shorter"),
        (["1h jitter"], "not a schedule"),
        (["1h jitter now"], "not an interval"),
    ],
)
def test_impossible_schedules_are_refused(texts: list[str], why: str) -> None:
    with pytest.raises(BadSchedule) as caught:
        parse_schedule(texts)
    assert why in str(caught.value)


def test_without_tzdata_utc_goes_on() -> None:
    reset_tzpath(to=[])
    ZoneInfo.clear_cache()
    try:
        for text in ("daily at 02:30", "daily at 02:30 UTC"):
            assert walk(parse_schedule([text]), at("2026-11-21T00:00:00"), 1) == ["2026-11-21 02:30"]
        with pytest.raises(BadSchedule, match="zones come from the system's tzdata"):
            parse_schedule(["daily at 02:30 Europe/Berlin"])
    finally:
        reset_tzpath()
        ZoneInfo.clear_cache()


@pytest.mark.parametrize(
    "text", ["", "20261121", "20261121T020000", "2026-11-21T02:00:00Z", "20261321T020000Z"]
)
def test_what_is_no_slot_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"slot id|does not match"):
        slot_time(text)
