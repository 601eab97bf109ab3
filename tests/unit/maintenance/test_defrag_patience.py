"""What a run waits for, and for how long: members, elections, a sound cluster, pages that get free."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdguard.errors import ClusterUnhealthy
from etcdguard.maintenance.defrag.facts import MIB
from etcdguard.maintenance.defrag.members import status_of as answer_of
from tests.support.defrag_facts import GIB, survey
from tests.unit.maintenance.made_up import POLICY, MadeUp, Run, full, status_of


def blocked_for(
    run: Run, seconds: float, call: str, *, endpoint: str | None = None, later: float = 0.0
) -> None:
    """From ``later`` after that call on, that long, no read is served: by nobody, or not at ``endpoint``."""
    since: list[float] = []

    def reading(where: str) -> None:
        if run.cluster.calls[-1:] == [call] and not since:
            since.append(sum(run.slept) + later)
        if since and 0 <= sum(run.slept) - since[0] < seconds and where in (endpoint or where):
            raise ClusterUnhealthy("no leader", hint="-")

    run.cluster.reading = reading


def test_a_member_that_serves_only_later_is_waited_for() -> None:
    run = Run(MadeUp())
    blocked_for(run, 5, "defragment a2", endpoint=status_of(2).endpoint)
    report = run.run()
    assert (report.outcome, report.reason) == ("done", None)
    assert [one.seconds for one in report.results] == [5.0, 0.0, 0.0]
    assert run.slept[:5] == [1.0] * 5


def test_a_member_that_does_not_come_back_ends_the_run() -> None:
    run = Run(MadeUp(), policy=replace(POLICY, patience=20))
    blocked_for(run, 1000, "defragment a2", endpoint=status_of(2).endpoint)
    report = run.run()
    assert (report.outcome, [one.outcome for one in report.results]) == ("failed", ["failed"])
    assert report.reason == "etcd-2: it was defragmented, and does not serve 20 s later"
    assert (report.results[0].after, report.results[0].seconds) == (None, 20.0)
    assert "defragment a3" not in run.cluster.calls


def test_no_answer_in_time_and_no_member_later_are_both_told() -> None:
    run = Run(MadeUp(defragmenting=lambda _: False), policy=replace(POLICY, patience=20))
    blocked_for(run, 1000, "defragment a2", endpoint=status_of(2).endpoint)
    assert run.run().reason == "etcd-2: it gave no answer within 60 s, and does not serve 20 s later"


def test_another_member_at_its_address_is_not_the_one_that_was_defragmented() -> None:
    cluster = MadeUp()

    def swapped(endpoint: str) -> bool:
        cluster.swapped = endpoint
        return True

    cluster.defragmenting = swapped
    report = Run(cluster, policy=replace(POLICY, patience=20)).run()
    assert report.reason == "etcd-2: it was defragmented, and does not serve 20 s later"


def test_a_cluster_that_is_unsound_for_a_while_is_waited_for() -> None:
    run = Run(MadeUp())
    blocked_for(run, 40, "defragment a3", later=10)
    assert run.run().outcome == "done"
    settled = 3 * POLICY.settle + POLICY.leader_settle
    assert (run.slept.count(1.0), sum(run.slept)) == (20, settled + POLICY.settle + 20)


def test_a_cluster_that_stays_unsound_ends_the_run() -> None:
    run = Run(MadeUp(), policy=replace(POLICY, patience=50, settle=20))
    blocked_for(run, 1000, "defragment a3", endpoint=status_of(1).endpoint)
    report = run.run()
    assert report.outcome == "partial"
    assert report.reason == "the cluster is not sound: etcd-1 does not serve: no leader"
    assert run.slept == [20.0] + [1.0] * 50
    assert run.cluster.calls[-2:] == ["defragment a3", "release"]


def test_a_cluster_without_a_quorum_between_members_ends_the_run() -> None:
    run = Run(MadeUp(), policy=replace(POLICY, patience=5))
    blocked_for(run, 1000, "move_leader a3")
    report = run.run()
    assert (report.outcome, len(report.results)) == ("partial", 2)
    assert report.reason == "no leader; no leader; no leader"
    assert "defragment a1" not in run.cluster.calls


def test_an_election_takes_its_time() -> None:
    run = Run(MadeUp())
    blocked_for(run, 7, "move_leader a3")
    report = run.run()
    assert (report.outcome, report.reason) == ("done", None)
    assert run.slept.count(1.0) == 7


def test_out_of_space_and_history_of_any_age_may_go() -> None:
    run = Run(full(), policy=replace(POLICY, compact_age=0))
    assert run.run().disarmed
    assert 0 < min(run.slept) <= max(run.slept) == POLICY.settle, "nothing was waited for"


def test_members_that_keep_freeing_pages_are_not_waited_for_for_ever() -> None:
    cluster = full()
    run = Run(cluster, policy=replace(POLICY, compact_timeout=20))

    def frees(endpoint: str) -> None:
        if cluster.calls[-1:] == ["compact 4000"]:
            used = 2 * GIB - round(sum(run.slept)) * MIB
            cluster.change(db_size_in_use=used)

    cluster.reading = frees
    assert run.run().disarmed
    assert run.slept.count(2.0) == 10


@pytest.mark.parametrize("member_id", [None, "a9"])
def test_a_member_that_gives_no_status_is_named(member_id: str | None) -> None:
    assert answer_of(survey(), "a2") == status_of(2)
    with pytest.raises(ClusterUnhealthy, match=f"member {member_id} gives no status"):
        answer_of(survey(), member_id)
