"""Each judgment at its borders."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from etcdguard.errors import ClusterUnhealthy, Corruption, EtcdUnreachable
from etcdguard.etcd.consistency import Consistency
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.checks.facts import ClusterFacts, KeySpace, MemberFacts, SizePoint, Unknown
from etcdguard.maintenance.checks.judge import judge_cluster
from etcdguard.maintenance.checks.thresholds import LIMITS, Limits, Senseless, Thresholds
from etcdguard.maintenance.checks.trend import growth_per_second
from etcdguard.maintenance.results import CheckResult, Outcome, failure, overall
from etcdguard.model import ClusterTopology
from tests.unit.maintenance.facts import (
    DOWN,
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
    status,
    with_members,
)

OK, SKIP, WARN, FAIL = Outcome.OK, Outcome.SKIP, Outcome.WARN, Outcome.FAIL


def judged(found: ClusterFacts, name: str, thresholds: Thresholds | None = None) -> CheckResult:
    lines = {one.name: one for one in judge_cluster(found, thresholds or Thresholds())}
    return lines[f"cluster.{name}"]


def one(number: int, quota: int | None = 2 * GIB, skew: float | None = 0.0, **changes: Any) -> MemberFacts:
    return MemberFacts(member(number), status(number, **changes), quota=quota, skew=skew)


def down(number: int) -> MemberFacts:
    return MemberFacts(member(number), DOWN)


def test_a_sound_cluster_is_ok_in_every_line() -> None:
    results = judge_cluster(facts(), Thresholds())

    names = [result.name for result in results]
    assert len(set(names)) == len(names) == 24
    found = {result.name: result.outcome for result in results if result.outcome is not OK}
    assert found == {"cluster.peer_round_trip": SKIP}  # the facts hold no peers
    assert overall(results) is OK
    assert failure(results) is None
    assert all(result.value for result in results)


def test_whatever_is_bad_has_a_hint_and_whatever_has_a_limit_names_it() -> None:
    broken = with_members(
        down(2),
        one(3, db_size=3 * GIB, db_size_in_use=1 * GIB, leader_id="0", version="3.7.0", raft_applied_index=1),
        one(1, skew=-9.0),
        strangers=("http://x",),
        alarms=(Alarm("a3", "NOSPACE"),),
        certificates=[certified("client", days=-1)],
        disks=[disk(1)],
        sizes=growing(900 * MIB, keys_a_day=900),
        key_space=KeySpace("/a/b/c", 2 * MIB, "/a/b", 300 * MIB, 400 * MIB),
        samples=[
            sample(60.0),
            sample(0.0, {1: counters(failed_proposals=9e9, wal_fsync=histogram(9.0, count=1e9))}),
        ],
    )
    results = judge_cluster(broken, Thresholds())

    bad = [result for result in results if result.outcome in (WARN, FAIL)]
    assert len(bad) > 12
    assert all(result.hint for result in bad)
    assert {result.name.removeprefix("cluster.") for result in results if result.threshold} == set(LIMITS) - {
        "backup_age",
        "verified_age",
    }


@pytest.mark.parametrize(
    ("voters", "learners", "outcome"),
    [(1, 0, OK), (2, 0, WARN), (3, 0, OK), (3, 1, WARN), (4, 0, WARN), (7, 0, OK), (9, 0, WARN)],
)
def test_members(voters: int, learners: int, outcome: Outcome) -> None:
    members = [member(n) for n in range(voters)] + [member(n + 20, learner=True) for n in range(learners)]

    assert judged(facts(topology=ClusterTopology("c", tuple(members))), "members").outcome is outcome


def test_quorum() -> None:
    assert judged(facts(), "quorum").value == "3 of 3 voters answer"

    result = judged(with_members(down(2)), "quorum")
    assert result.outcome is WARN
    assert result.value == "2 of 3 voters answer; m2: connection refused"

    lost = ClusterUnhealthy("no answer", hint="bring them back")
    result = judged(with_members(down(1), down(2), quorum=lost), "quorum")
    assert (result.outcome, result.error) == (FAIL, ClusterUnhealthy)
    assert result.value.startswith("1 of 3 voters answer; no linearizable read: m1: connection refused; m2")

    result = judged(with_members(down(1), down(2), down(3), quorum=DOWN), "quorum")
    assert (result.outcome, result.error) == (FAIL, EtcdUnreachable)


def test_leader() -> None:
    assert judged(facts(), "leader").value == "m1"
    leaderless = status(2, leader_id="0")
    before, now = sample(5.0), sample(0.0, statuses={1: status(1), 2: leaderless})
    for_long = sample(30.0, statuses={2: leaderless})
    long_ago = sample(61.0)

    changed = one(2, leader_id="0")
    assert judged(with_members(changed, samples=[before, now]), "leader").outcome is WARN
    assert judged(with_members(changed, samples=[now]), "leader").outcome is FAIL
    assert judged(with_members(changed, samples=[long_ago, for_long, now]), "leader").outcome is FAIL
    assert judged(with_members(one(2, leader_id="a3")), "leader").outcome is WARN
    assert judged(with_members(down(1), down(2), down(3)), "leader").outcome is SKIP


@pytest.mark.parametrize(
    ("totals", "seconds", "outcome"),
    [
        ((1, 1), 5, OK),  # fewer since the start than would be too many
        ((3, 3), 5, OK),
        ((9, 9), 5, SKIP),  # perhaps just before we looked
        ((9, 9), 900, OK),
        ((9, 12), 900, OK),
        ((9, 13), 900, WARN),
        ((9, 13), 60, WARN),
        ((9, 4), 60, WARN),  # restarted, and four since
        ((9, 13), 1000, SKIP),  # the first is too old to count
    ],
)
def test_leader_changes(totals: tuple[int, int], seconds: int, outcome: Outcome) -> None:
    early, late = ({1: counters(leader_changes=float(total))} for total in totals)

    result = judged(facts(samples=[sample(seconds, early), sample(0.0, late)]), "leader_changes")

    assert result.outcome is outcome


def test_leader_changes_need_metrics() -> None:
    assert judged(facts(samples=[sample(0.0, {})]), "leader_changes").outcome is SKIP


@pytest.mark.parametrize(
    ("before", "now", "outcome"),
    [
        (0, 100, OK),
        (0, 101, OK),
        (100, 101, OK),
        (101, 101, WARN),
        (0, 5000, OK),
        (5000, 5001, FAIL),
        (0, 5001, FAIL),
    ],
)
def test_unapplied(before: int, now: int, outcome: Outcome) -> None:
    early, late = (status(1, raft_index=9000, raft_applied_index=9000 - lag) for lag in (before, now))
    samples = [sample(30.0, statuses={1: early}), sample(0.0, statuses={1: late})]

    found = with_members(one(1, raft_index=9000, raft_applied_index=9000 - now), samples=samples)

    assert judged(found, "unapplied").outcome is outcome


@pytest.mark.parametrize(("failed", "outcome"), [(0, OK), (50, OK), (51, WARN)])
def test_failed_proposals(failed: int, outcome: Outcome) -> None:
    late = {1: counters(failed_proposals=float(failed)), 2: counters()}

    result = judged(facts(samples=[sample(10.0), sample(0.0, late)]), "failed_proposals")

    assert result.outcome is outcome
    assert f"{failed / 10:.3g}/s on m1" in result.value


def test_failed_proposals_need_two_looks() -> None:
    assert judged(facts(samples=[sample(0.0)]), "failed_proposals").outcome is SKIP


def test_alarms() -> None:
    assert judged(facts(alarms=Unknown("no answer")), "alarms").outcome is SKIP
    nospace = judged(facts(alarms=(Alarm("a2", "NOSPACE"),)), "alarms")
    assert (nospace.outcome, nospace.value, nospace.error) == (FAIL, "NOSPACE on m2", ClusterUnhealthy)
    corrupt = judged(facts(alarms=(Alarm("a2", "NOSPACE"), Alarm("ff", "CORRUPT"))), "alarms")
    assert (corrupt.outcome, corrupt.error) == (FAIL, Corruption)
    assert corrupt.value == "NOSPACE on m2, CORRUPT on ff"


def test_hash() -> None:
    hashes = facts().consistency.hashes  # type: ignore[union-attr]
    assert judged(facts(consistency=Unknown("not asked for")), "hash").outcome is SKIP
    different = judged(facts(consistency=Consistency("different", "m2 differs", hashes)), "hash")
    assert (different.outcome, different.error) == (FAIL, Corruption)
    inconclusive = judged(facts(consistency=Consistency("inconclusive", "moved", hashes)), "hash")
    assert inconclusive.outcome is WARN
    assert "corrupt" not in inconclusive.value
    some = Consistency("equal", "equal on all 2", {name: hashes[name] for name in ("m1", "m3")})
    assert judged(facts(consistency=some), "hash").value == "equal on all 2; not asked: m2"
    assert judged(facts(consistency=some), "hash").outcome is WARN


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("3.5.30", OK), ("3.5.29", WARN), ("3.6.1", WARN), ("3.4.9", WARN), ("3.7.0", FAIL), ("odd", WARN)],
)
def test_versions(version: str, outcome: Outcome) -> None:
    assert judged(with_members(one(3, version=version)), "versions").outcome is outcome


def test_strangers_and_metrics() -> None:
    assert judged(facts(strangers=("http://x:2379",)), "identity").outcome is FAIL
    silent = replace(facts().members[1], metrics_problem="404")
    assert judged(with_members(silent), "metrics").outcome is WARN
    assert judged(with_members(down(1), down(2), down(3)), "metrics").outcome is SKIP


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


def test_a_configured_limit_replaces_the_default() -> None:
    strict = Thresholds({"database_quota": LIMITS["database_quota"].but({"warn": 0.05})})

    assert judged(facts(), "database_quota", strict).outcome is WARN
    assert judged(facts(), "database_quota", strict).threshold == "warn > 5 %, fail > 95 %"
    off = Thresholds({"wal_fsync": LIMITS["wal_fsync"].but({"warn": None, "fail": None})})
    slow = facts(samples=[sample(0.0, {1: counters(wal_fsync=histogram(9.0))})])
    assert judged(slow, "wal_fsync", off).outcome is OK


@pytest.mark.parametrize(
    ("name", "levels"),
    [
        ("database_quota", {"warn": 0.99}),
        ("database_quota", {"fail": 1.5}),
        ("database_quota", {"warn": 0.0}),
        ("wal_fsync", {"warn": float("nan")}),
        ("unapplied", {"warn": -1.0}),
        ("certificates", {"warn": 1.0}),
    ],
)
def test_senseless_limits_are_refused(name: str, levels: dict[Any, float]) -> None:
    with pytest.raises(Senseless):
        LIMITS[name].but(levels)


def test_the_defaults_make_sense() -> None:
    for limits in LIMITS.values():
        assert limits.but({}) == limits
    assert Limits("number", None).judge(1e9) is OK


def test_corruption_decides_the_exit_code_wherever_it_stands() -> None:
    lines = [
        CheckResult("a", OK, "fine"),
        CheckResult("b", FAIL, "bad", hint="mend", error=ClusterUnhealthy),
        CheckResult("c", FAIL, "differs", error=Corruption),
    ]
    error = failure(lines)
    assert isinstance(error, Corruption)
    assert error.message == "c: differs"
    assert error.hint
    assert isinstance(failure(lines[:2]), ClusterUnhealthy)
    assert overall(lines) is FAIL
    assert overall([CheckResult("a", SKIP, "no")]) is SKIP
    assert overall([CheckResult("a", SKIP, "no"), lines[0]]) is OK
