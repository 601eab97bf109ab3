"""Turns of a run that real clusters take only by chance: a made-up cluster that answers as it is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable, Locked
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.facts import MIB
from etcdguard.maintenance.defrag.history import read_history
from etcdguard.maintenance.defrag.plan import FreshBackup
from tests.support.defrag_facts import GIB, NOW
from tests.unit.maintenance.made_up import POLICY, MadeUp, Run, full


def test_the_whole_way() -> None:
    cluster = MadeUp()
    run = Run(cluster)
    report = run.run()
    assert (report.outcome, report.reason) == ("done", None)
    assert cluster.calls == [
        "backup",
        *("defragment a2", "defragment a3"),
        "move_leader a3",
        "defragment a1",
        "release",
    ]
    assert run.slept.count(POLICY.settle) == 3
    assert run.slept.count(POLICY.leader_settle) == 1
    assert [one.after for one in report.results] == [100 * MIB] * 3


def test_a_fresh_backup_is_enough() -> None:
    cluster = MadeUp()
    report = Run(cluster, fresh=FreshBackup("fresh", NOW, "data")).run()
    assert report.backup is not None
    assert report.backup.id == "fresh"
    assert "backup" not in cluster.calls


def test_a_member_that_did_not_shrink_ends_the_run() -> None:
    cluster = MadeUp(shrinks_to=400 * MIB)
    report = Run(cluster).run()
    assert report.outcome == "failed"
    assert report.reason == "etcd-2: it did not shrink"
    assert cluster.calls == ["backup", "defragment a2", "release"]


def test_a_connection_that_breaks_ends_the_run() -> None:
    def broken(_endpoint: str) -> bool:
        raise EtcdUnreachable("connection reset", hint="-")

    cluster = MadeUp(defragmenting=broken)
    report = Run(cluster).run()
    assert report.reason == "etcd-2: connection reset, though it serves again"
    assert cluster.calls.count("defragment a2") == 1
    assert len(cluster.calls) == 3


@pytest.mark.parametrize("how", ["refused", "ignored"])
def test_a_leader_that_stays_is_skipped_and_counted(how: str) -> None:
    cluster = MadeUp(handing_over=how)
    run = Run(cluster)
    report = run.run()
    assert report.outcome == "partial"
    assert [one.outcome for one in report.results] == ["done", "done", "skipped"]
    assert "handing over failed" in (report.reason or "")
    assert "defragment a1" not in cluster.calls
    assert run.job().plan().plan.survey.leader_id == "a1"
    assert read_history(run.events, "c1").failures == 1


def test_an_answer_lost_is_not_a_failure() -> None:
    cluster = MadeUp(handing_over="works, the answer is lost")
    assert Run(cluster).run().outcome == "done"


def test_a_leader_elected_elsewhere_ends_the_run() -> None:
    cluster = MadeUp(handing_over="elsewhere")
    report = Run(cluster).run()
    assert report.outcome == "partial"
    assert "after handing over, the leader is a2, not a3" in (report.reason or "")
    assert "defragment a1" not in cluster.calls


def test_three_failures_and_then_no_more() -> None:
    run = Run(MadeUp(shrinks_to=400 * MIB))
    for _ in range(3):
        assert run.run().outcome == "failed"
    calls = len(run.cluster.calls)
    with pytest.raises(EtcdGuardError, match="the last 3 runs failed"):
        run.run()
    assert run.cluster.calls[calls:] == ["release"]
    run.policy = replace(POLICY, max_failures=99)
    run.cluster.shrinks_to = 100 * MIB
    assert run.run().outcome == "done"
    assert read_history(run.events, "c1").failures == 0


def test_out_of_space() -> None:
    cluster = full()
    run = Run(cluster)
    report = run.run()
    assert (report.outcome, report.reason, report.disarmed, report.compacted) == ("done", None, True, 4000)
    assert cluster.calls == [
        "backup",
        "compact 4000",
        "defragment a2",
        "defragment a3",
        "move_leader a3",
        "defragment a1",
        "disarm a2",
        "disarm a3",
        "release",
    ]
    assert 0 < max(run.slept) <= POLICY.compact_age, "what is younger was waited for"


def test_out_of_space_and_the_lock_is_held_from_before() -> None:
    cluster = full(locked_by="somebody")
    with pytest.raises(Locked, match="somebody"):
        Run(cluster).run()
    assert cluster.calls == []


def test_no_lock_for_another_reason() -> None:
    cluster = MadeUp(lease=ClusterUnhealthy("no leader", hint="-"))
    with pytest.raises(ClusterUnhealthy, match="no leader"):
        Run(cluster).run()
    assert cluster.calls == []


def test_out_of_space_because_of_what_lives() -> None:
    cluster = full(shrinks_to=2 * GIB - 100 * MIB)
    report = Run(cluster).run()
    assert "etcd-2 is defragmented and still takes 95% of its quota" in (report.reason or "")
    assert "defragment a3" not in cluster.calls
    assert not report.disarmed


def test_the_alarm_stays_where_the_quota_is_not_known() -> None:
    cluster = full()
    report = Run(cluster, quota=None).run()
    assert report.outcome == "partial"
    assert "the quota of etcd-1 is not known" in (report.reason or "")
    assert not any(call.startswith("disarm") for call in cluster.calls)


def test_an_alarm_that_comes_back_is_told() -> None:
    cluster = full(after_disarm=(Alarm("a3", "NOSPACE"),))
    report = Run(cluster).run()
    assert (report.outcome, report.disarmed) == ("partial", False)
    assert "is back for a3" in (report.reason or "")


def test_an_alarm_left_over_is_disarmed_without_blocking_anybody() -> None:
    cluster = full()
    cluster.change(db_size=MIB, db_size_in_use=MIB)
    report = Run(cluster).run()
    assert (report.outcome, report.disarmed) == ("done", True)
    assert not any(call.startswith("defragment") for call in cluster.calls)


def test_the_alarm_stays_where_a_member_has_grown_again() -> None:
    cluster = full()

    def grows(endpoint: str) -> bool:
        if cluster.status(endpoint).member_id == "a1":
            cluster.statuses_["a2"] = replace(cluster.statuses_["a2"], db_size=2 * GIB)
        return True

    cluster.defragmenting = grows
    report = Run(cluster).run()
    assert (report.outcome, report.disarmed) == ("partial", False)
    assert report.reason == "the alarm stays: etcd-2 takes 100% of its quota"
