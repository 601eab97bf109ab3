"""What speaks against a defragmentation before it, and what ends it while it goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import ClusterUnhealthy, Refused
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.facts import MIB, History, MemberFacts, Policy, Survey
from etcdguard.maintenance.defrag.guards import (
    Problem,
    breaches,
    in_the_way,
    raise_problems,
    unfit,
    version_problem,
)
from etcdguard.maintenance.defrag.select import Decision
from tests.support.defrag_facts import facts, survey

POLICY = Policy()
NOSPACE, CORRUPT = Alarm("a2", "NOSPACE"), Alarm("a2", "CORRUPT")


def texts(found: Survey, policy: Policy = POLICY) -> str:
    return "; ".join(one.text for one in unfit(found, policy))


def with_third(one: MemberFacts) -> Survey:
    return survey([facts(1), facts(2), one])


def test_a_sound_cluster_is_fit() -> None:
    assert unfit(survey(), POLICY) == []
    assert unfit(survey([facts(n) for n in range(1, 6)]), POLICY) == []


@pytest.mark.parametrize(
    "version", ["3.5.0", "3.5.1", "3.5.2", "3.5.3", "3.5.4", "3.5.5", "3.5.5+git", "3.5.0-rc.1"]
)
def test_versions_that_lose_data(version: str) -> None:
    problem = version_problem("etcd-1", version)
    assert problem is not None
    assert problem.rule
    assert "14733" in problem.text
    assert "3.5.6" in problem.hint
    (found,) = unfit(with_third(facts(3, version=version)), POLICY)
    assert "etcd-3" in found.text


@pytest.mark.parametrize(
    "version", ["3.4.0", "3.4.37", "3.5.6", "3.5.21", "3.5.50", "3.6.0", "3.7.0-alpha.0", "4.0.0"]
)
def test_versions_that_do_not(version: str) -> None:
    assert version_problem("etcd-1", version) is None


@pytest.mark.parametrize("version", ["3.3.27", "2.3.8", "", "not provided", "3.5", "v3.5.9"])
def test_versions_that_are_not_known(version: str) -> None:
    problem = version_problem("etcd-1", version)
    assert problem is not None
    assert problem.rule


@pytest.mark.parametrize(
    ("third", "why"),
    [
        (
            replace(facts(3), status=None, failure="connection refused"),
            "etcd-3 does not serve: connection refused",
        ),
        (replace(facts(3), failure="no answer in 5 s"), "etcd-3 does not serve: no answer in 5 s"),
        (facts(3, leader_id="0"), "etcd-3 knows no leader"),
        (facts(3, leader_id="a2"), "different leaders: a1, a2"),
        (facts(3, raft_index=5101), "etcd-3 has 101 entries to apply"),
        (facts(3, raft_applied_index=3999, raft_index=3999), "etcd-3 is 1001 entries behind"),
        (facts(3, errors=("etcdserver: no leader",)), "reports 'etcdserver: no leader'"),
        (replace(facts(3), busy="is sending a snapshot"), "etcd-3 is sending a snapshot"),
        (facts(3, learner=True), "etcd-3 is a learner"),
    ],
)
def test_what_makes_a_cluster_unfit(third: MemberFacts, why: str) -> None:
    assert why in texts(with_third(third))


def test_just_within_the_limits() -> None:
    assert texts(with_third(facts(3, raft_index=5100))) == ""
    assert texts(with_third(facts(3, raft_applied_index=4000, raft_index=4000))) == ""


def test_a_leader_that_is_no_voter() -> None:
    assert "a9 is not one of the voters" in texts(survey([facts(n, leader_id="a9") for n in (1, 2, 3)]))


def test_alarms() -> None:
    assert texts(survey(alarms=[NOSPACE])) == ""
    said = "memberID:10 alarm:NOSPACE "
    assert texts(survey([facts(1), facts(2), facts(3, errors=(said,))], [NOSPACE])) == ""
    (problem,) = unfit(survey(alarms=[NOSPACE, CORRUPT]), POLICY)
    assert "CORRUPT is raised for etcd-2" in problem.text
    assert not problem.rule


def test_strangers_are_named() -> None:
    assert "is not one of" in texts(survey(strangers=("http://x:2379 is not one of this cluster's members",)))


@pytest.mark.parametrize(("voters", "fit"), [(1, False), (2, False), (3, True), (4, True), (5, True)])
def test_a_quorum_must_do_without_one(voters: int, fit: bool) -> None:
    cluster = survey([facts(n) for n in range(1, voters + 1)])
    assert (texts(cluster) == "") == fit
    assert all(one.rule for one in unfit(cluster, POLICY))
    assert texts(cluster, replace(POLICY, small_clusters=True)) == ""


def test_health_comes_before_rules() -> None:
    rule, sick = Problem("too big", "shrink it", rule=True), Problem("too ill", "heal it")
    raise_problems([])
    with pytest.raises(Refused, match="too big") as refused:
        raise_problems([rule])
    assert refused.value.hint == "shrink it"
    with pytest.raises(ClusterUnhealthy, match="too big; too ill") as unhealthy:
        raise_problems([rule, sick])
    assert unhealthy.value.hint == "heal it"


def chosen(one: MemberFacts) -> list[Decision]:
    return [Decision(one, "fragmentation", "")]


def test_a_member_blocked_for_too_long() -> None:
    big = facts(db_size=6_000_000_000, db_size_in_use=1)
    assert in_the_way(chosen(big), POLICY, History({})) == []
    bigger = facts(db_size=6_100_000_000, db_size_in_use=1)
    (problem,) = in_the_way(chosen(bigger), POLICY, History({}))
    assert problem.rule
    assert "about 61 s" in problem.text
    assert in_the_way(chosen(bigger), replace(POLICY, max_duration=90), History({})) == []
    assert in_the_way([Decision(bigger, None, "")], POLICY, History({})) == [], "nobody defragments it"


def test_a_disk_without_room_for_the_copy() -> None:
    needed = 120 * MIB + 512 * MIB
    assert in_the_way(chosen(replace(facts(), disk_free=needed)), POLICY, History({})) == []
    (problem,) = in_the_way(chosen(replace(facts(), disk_free=needed - 1)), POLICY, History({}))
    assert problem.rule
    assert "631 MiB of disk left and needs 632 MiB" in problem.text.replace(
        "632 MiB of disk", "631 MiB of disk"
    )


def test_three_failures_open_the_circuit() -> None:
    assert in_the_way(chosen(facts()), POLICY, History({}, failures=2)) == []
    (problem,) = in_the_way(chosen(facts()), POLICY, History({}, failures=3))
    assert problem.rule
    assert "--ignore-failures" in problem.hint
    assert in_the_way([], POLICY, History({}, failures=3)) == [], "there is nothing to refuse"


def test_what_a_member_does_not_say_is_not_judged() -> None:
    """It does not serve, which is told; its size and how far it has come are not known."""
    silent = replace(facts(3, raft_applied_index=1), status=None, failure="connection refused")
    assert [one.text for one in unfit(survey([facts(1), facts(2), silent]), POLICY)] == [
        "etcd-3 does not serve: connection refused"
    ]
    all_silent = [replace(silent, member=facts(n).member) for n in (1, 2, 3)]
    assert len(unfit(survey(all_silent), POLICY)) == 3
    assert in_the_way([Decision(silent, "nospace", "no space is left")], POLICY, History({})) == []


@given(st.integers(0, 2**44))
def test_timeouts(size: int) -> None:
    timeout = POLICY.timeout(size)
    assert 60 <= timeout <= 600
    assert timeout in (60, 600) or timeout == pytest.approx(3 * size / 100e6)
    assert POLICY.timeout(size + 1) >= timeout


def test_what_ends_a_run() -> None:
    before = survey()
    assert breaches(before, survey()) == []
    assert breaches(before, survey([facts(n, raft_index=9000) for n in (1, 2, 3)])) == []
    assert breaches(before, survey(alarms=[NOSPACE])) == ["the alarm NOSPACE was raised for a2"]
    alarmed = survey(alarms=[NOSPACE])
    assert breaches(alarmed, survey(alarms=[Alarm("a3", "NOSPACE")])) == [], "it is why we are here"
    assert breaches(alarmed, survey(alarms=[NOSPACE, CORRUPT])) == ["the alarm CORRUPT was raised for a2"]
    elsewhere = survey([facts(n, leader_id="a2", raft_term=8) for n in (1, 2, 3)])
    assert breaches(before, elsewhere) == ["the leader changed, and not by us: a1 to a2"]
    back_again = survey([facts(n, raft_term=9) for n in (1, 2, 3)])
    assert len(breaches(before, back_again)) == 1
    electing = survey([facts(n, leader_id="0", raft_term=8) for n in (1, 2, 3)])
    assert breaches(before, electing) == [], "that is for patience"
    assert breaches(before, survey([facts(1), facts(2)])) == ["etcd-3 is no voter any more"]
    assert breaches(before, survey([facts(1), facts(2), facts(3, learner=True)])) == [
        "etcd-3 is no voter any more"
    ]
    other = replace(survey(), topology=replace(survey().topology, cluster_id="c2"))
    assert breaches(before, other) == ["another cluster answers: c2"]
