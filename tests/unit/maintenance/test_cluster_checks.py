"""Each judgment of members and thresholds at its borders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etcdguard.errors import ClusterUnhealthy, Corruption, EtcdUnreachable
from etcdguard.etcd.consistency import Consistency
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.checks.facts import KeySpace, Unknown
from etcdguard.maintenance.checks.judge import judge_cluster
from etcdguard.maintenance.checks.thresholds import LIMITS, Limits, Senseless, Thresholds
from etcdguard.maintenance.results import CheckResult, Outcome, failure, overall
from etcdguard.model import ClusterTopology
from tests.unit.maintenance.facts import (
    DOWN,
    GIB,
    MIB,
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
from tests.unit.maintenance.judging import down, judged, one

OK, SKIP, WARN, FAIL = Outcome.OK, Outcome.SKIP, Outcome.WARN, Outcome.FAIL


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
    each = {1: counters(leader_changes=None), 2: counters(leader_changes=2.0)}
    assert judged(facts(samples=[sample(0.0, each)]), "leader_changes").outcome is OK
    silent = {number: counters(leader_changes=None) for number in (1, 2, 3)}
    assert judged(facts(samples=[sample(0.0, silent)]), "leader_changes").outcome is SKIP


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
