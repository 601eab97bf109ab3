"""Each judgment of times, sizes, certificates and clocks at its borders."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from etcdguard.maintenance.checks.facts import ClusterFacts, KeySpace, SizePoint, Unknown
from etcdguard.maintenance.checks.trend import growth_per_second
from etcdguard.maintenance.results import Outcome
from etcdguard.model import ClusterTopology
from tests.unit.maintenance.facts import (
    GIB,
    MIB,
    NOW,
    certified,
    counters,
    disk,
    facts,
    growing,
    histogram,
    member,
    sample,
    with_members,
)
from tests.unit.maintenance.judging import judged, one

OK, SKIP, WARN, FAIL = Outcome.OK, Outcome.SKIP, Outcome.WARN, Outcome.FAIL


@pytest.mark.parametrize(
    ("name", "seconds", "outcome", "advised"),
    [
        ("wal_fsync", 0.010, OK, False),
        ("wal_fsync", 0.011, OK, True),
        ("wal_fsync", 0.1, OK, True),
        ("wal_fsync", 0.101, WARN, True),
        ("wal_fsync", 1.0, WARN, True),
        ("wal_fsync", 1.01, FAIL, True),
        ("backend_commit", 0.025, OK, False),
        ("backend_commit", 0.026, OK, True),
        ("backend_commit", 0.25, OK, True),
        ("backend_commit", 0.251, WARN, True),
    ],
)
def test_disk_latency(name: str, seconds: float, outcome: Outcome, advised: bool) -> None:
    late: dict[str, Any] = {name: histogram(seconds)}

    result = judged(facts(samples=[sample(0.0, {1: counters(**late), 2: counters()})]), name)

    assert result.outcome is outcome
    assert bool(result.hint) is advised


def test_latency_is_of_the_window_where_that_has_enough() -> None:
    early = {1: counters(wal_fsync=histogram(0.5, count=1000))}
    same = facts(samples=[sample(60.0, early), sample(0.0, early)])
    result = judged(same, "wal_fsync")
    assert result.outcome is WARN
    assert "since its start" in result.value

    bounds = (0.001, 0.5, float("inf"))
    early = {1: counters(wal_fsync=replace(histogram(1), bounds=bounds, counts=(0.0, 1000.0, 1000.0)))}
    late = {1: counters(wal_fsync=replace(histogram(1), bounds=bounds, counts=(100.0, 1100.0, 1100.0)))}
    result = judged(facts(samples=[sample(60.0, early), sample(0.0, late)]), "wal_fsync")
    assert result.outcome is OK
    assert "p99 1ms over 1m on m1" in result.value


def test_peer_round_trip() -> None:
    def with_rtt(seconds: float) -> ClusterFacts:
        return facts(samples=[sample(0.0, {1: counters(peer_round_trip={"a2": histogram(seconds)})})])

    assert judged(with_rtt(0.15), "peer_round_trip").outcome is OK
    slow = judged(with_rtt(0.16), "peer_round_trip")
    assert slow.outcome is WARN
    assert "m1 to m2" in slow.value
    alone = facts(topology=ClusterTopology("c", (member(1),)))
    assert judged(alone, "peer_round_trip").outcome is OK


@pytest.mark.parametrize(
    ("size", "quota", "outcome"),
    [(80, 100, OK), (81, 100, WARN), (95, 100, WARN), (96, 100, FAIL), (1, None, SKIP), (1, -1, OK)],
)
def test_database_quota(size: int, quota: int | None, outcome: Outcome) -> None:
    members = [one(number, quota, db_size=size, db_size_in_use=size) for number in (1, 2, 3)]

    assert judged(with_members(*members), "database_quota").outcome is outcome


@pytest.mark.parametrize(
    ("quota", "outcome"), [(2 * GIB, OK), (8 * GIB, OK), (8 * GIB + 1, WARN), (-1, WARN), (None, SKIP)]
)
def test_quota_size(quota: int | None, outcome: Outcome) -> None:
    assert judged(with_members(*(one(n, quota) for n in (1, 2, 3))), "quota_size").outcome is outcome


def test_quotas_that_differ() -> None:
    assert judged(with_members(one(2, 4 * GIB)), "quota_size").outcome is WARN


@pytest.mark.parametrize(("days", "outcome"), [(7.1, OK), (6.9, WARN), (0.1, WARN)])
def test_quota_forecast(days: float, outcome: Outcome) -> None:
    room = 2 * GIB - 200 * MIB

    result = judged(facts(sizes=growing(room / days)), "quota_forecast")

    assert result.outcome is outcome
    assert "full in" in result.value


def test_a_forecast_needs_a_trend() -> None:
    assert judged(facts(sizes=Unknown("no repository")), "quota_forecast").outcome is SKIP
    assert judged(facts(sizes=growing(MIB, hours=1)[:2]), "quota_forecast").outcome is SKIP
    brief = [SizePoint(NOW + timedelta(minutes=n), n * MIB, n) for n in range(59)]
    assert judged(facts(sizes=brief), "quota_forecast").outcome is SKIP
    assert judged(facts(sizes=growing(-MIB)), "quota_forecast").outcome is OK
    silent = with_members(one(1, None), one(2, None), one(3, None))
    assert judged(silent, "quota_forecast").outcome is SKIP


def test_one_defragmentation_does_not_turn_the_trend() -> None:
    points = growing(240 * MIB, start=1000 * MIB)
    dropped = [
        replace(point, db_bytes=point.db_bytes - (500 * MIB if number > 20 else 0))
        for number, point in enumerate(points)
    ]

    assert growth_per_second(points) * 86400 == pytest.approx(240 * MIB, rel=1e-6)
    assert growth_per_second(dropped) * 86400 == pytest.approx(240 * MIB, rel=1e-6)
    jumped = [replace(one, db_bytes=2 * points[0].db_bytes - one.db_bytes) for one in dropped]
    assert growth_per_second(jumped) * 86400 == pytest.approx(-240 * MIB, rel=1e-6)


@pytest.mark.parametrize(("share", "outcome"), [(0.19, OK), (0.21, WARN), (-0.5, OK)])
def test_key_growth(share: float, outcome: Outcome) -> None:
    result = judged(facts(sizes=growing(0, keys_a_day=1000 * share)), "key_growth")

    assert result.outcome is outcome


@pytest.mark.parametrize(
    ("size", "in_use", "quota", "outcome"),
    [
        (200, 112, None, OK),  # 44 % free, and not 100 MiB
        (400, 221, None, OK),
        (400, 220, None, WARN),
        (199, 100, None, OK),  # half is free, and not worth it
        (99, 1, None, OK),
        (900, 700, 1000, WARN),  # near its quota, and a fifth of that is free
        (900, 810, 1000, OK),
        (900, None, 1000, SKIP),
    ],
)
def test_fragmentation(size: int, in_use: int | None, quota: int | None, outcome: Outcome) -> None:
    sizes: dict[str, Any] = {
        "quota": None if quota is None else quota * MIB,
        "db_size": size * MIB,
        "db_size_in_use": None if in_use is None else in_use * MIB,
    }

    result = judged(with_members(*(one(number, **sizes) for number in (1, 2, 3))), "fragmentation")

    assert result.outcome is outcome


@pytest.mark.parametrize(
    ("free", "total", "outcome"),
    [(10 * GIB, 100 * GIB, OK), (9 * GIB, 100 * GIB, WARN), (400 * MIB, GIB, OK), (399 * MIB, GIB, WARN)],
)
def test_disk(free: int, total: int, outcome: Outcome) -> None:
    assert judged(facts(disks=[disk(free, total=total)]), "disk").outcome is outcome


def test_a_disk_elsewhere_is_not_known() -> None:
    assert judged(facts(disks=Unknown("not here")), "disk").outcome is SKIP


@pytest.mark.parametrize(
    ("size", "outcome"),
    [(MIB, OK), (MIB + 1, WARN), (1400 * 1024, WARN), (1400 * 1024 + 1, FAIL)],
)
def test_value_size(size: int, outcome: Outcome) -> None:
    assert judged(facts(key_space=KeySpace("/k", size, "/k", 1, 1)), "value_size").outcome is outcome


def test_prefix_share() -> None:
    def of(share: int, total: int) -> Outcome:
        return judged(facts(key_space=KeySpace("/k", 1, "/k", share, total)), "prefix_share").outcome

    assert of(50 * MIB, 100 * MIB) is OK
    assert of(51 * MIB, 100 * MIB) is WARN
    assert of(99, 100) is OK  # a small one
    assert of(0, 0) is OK
    assert judged(facts(key_space=Unknown("large")), "prefix_share").outcome is SKIP
    assert judged(facts(key_space=Unknown("large")), "value_size").outcome is SKIP


@pytest.mark.parametrize(
    ("left", "outcome", "said"),
    [
        ({"days": 30}, OK, "30d left"),
        ({"days": 29, "hours": 23}, WARN, "29d23h left"),
        ({"days": 1}, WARN, "1d left"),
        ({"hours": 23}, FAIL, "23h left"),
        ({"hours": -2}, FAIL, "expired 2h ago"),
    ],
)
def test_certificates(left: dict[str, float], outcome: Outcome, said: str) -> None:
    found = facts(certificates=[certified("client", days=300), certified("server https://m1:2379", **left)])

    result = judged(found, "certificates")

    assert result.outcome is outcome
    assert f"{said} for server https://m1:2379" in result.value


def test_a_certificate_of_tomorrow_and_one_that_is_not_seen() -> None:
    early = certified("client", days=300)
    early = replace(early, certificate=replace(early.certificate, not_before=NOW + timedelta(seconds=1)))
    assert judged(facts(certificates=[early]), "certificates").outcome is FAIL
    assert judged(facts(certificates=[]), "certificates").outcome is SKIP
    unseen = Unknown("m2: refused")
    assert judged(facts(certificates=[unseen]), "certificates").outcome is SKIP
    both = judged(facts(certificates=[certified("client", days=300), unseen]), "certificates")
    assert both.outcome is OK
    assert "not seen: m2: refused" in both.value


@pytest.mark.parametrize(
    ("skew", "outcome"), [(0.0, OK), (-1.0, OK), (1.1, WARN), (-1.1, WARN), (None, SKIP)]
)
def test_clock(skew: float | None, outcome: Outcome) -> None:
    assert judged(with_members(*(one(n, skew=skew) for n in (1, 2, 3))), "clock").outcome is outcome
