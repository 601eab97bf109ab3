"""What the operator is told to do next: every word of it may be read at three in the morning."""

from __future__ import annotations

from typing import Any

from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices
from etcdguard.restore.report import (
    after_cluster,
    after_host,
    after_host_rollback,
    remaining,
    run_command_line,
)
from etcdguard.restore.result import ClusterResult, HostResult, RestoredMember
from tests.support.restores import NOW, make_manifest
from tests.unit.restore.test_planner import TWO, plan_of

PLAN = plan_of(choices=Choices(here=frozenset({"m1"})))
KUBERNETES = plan_of(make_manifest(kubernetes=True), TWO, Choices(leave_out=frozenset({"m3"})))
PROOF = {"leader": "m1"}
CLEAN_UP = (
    "Once all is well, delete the old directories: `etcdguard restore cleanup {}`{}; nothing else does."
)
NAMES = (
    "Leave names and peer URLs as they are; etcd takes the new cluster from its data directory and "
    "ignores --initial-cluster, --initial-cluster-state and --initial-cluster-token."
)


def facts(plan: RestorePlan, *names: str, kept: bool = True, **more: Any) -> dict[str, Any]:
    members = tuple(
        RestoredMember(
            name=member.name,
            member_id=member.member_id,
            data_dir=member.data_dir,
            wal_dir=None,
            kept=(member.kept_dir,) if kept else (),
        )
        for member in map(plan.member, names)
    )
    defaults: dict[str, Any] = {"proof": None, "seconds": {}, "started_at": NOW, "finished_at": NOW}
    of_plan = {"plan_id": plan.id, "backup_id": plan.backup_id, "cluster_id": plan.cluster_id}
    return {**defaults, **of_plan, "revision": plan.revision, "members": members, **more}


def of_host(plan: RestorePlan, *names: str, **more: Any) -> HostResult:
    return HostResult(**facts(plan, *names, **more), host="cp1")


def of_cluster(plan: RestorePlan, **more: Any) -> ClusterResult:
    names = [member.name for member in plan.members]
    return ClusterResult(**facts(plan, *names, **more), hosts={}, downtime_seconds=1.0)


def run_on(plan: RestorePlan, name: str, *flags: str) -> str:
    where = plan.member(name).host or f"the host of {name}"
    words = " ".join(["etcdguard restore run --plan p.json --member", name, *flags])
    return f"on {where}: `{words}`"


def test_a_command_line_can_be_pasted() -> None:
    assert run_command_line("my plan.json", ["m1", "m2"], "--start") == (
        "etcdguard restore run --plan 'my plan.json' --member m1 --member m2 --start"
    )
    assert remaining(PLAN, ["m2"]) == ("m1", "m3")


def test_after_one_host_is_held_down() -> None:
    first, second, then, back = after_host(PLAN, of_host(PLAN, "m1", phase="held"), "p.json")

    for name, step in (("m2", first), ("m3", second)):
        assert step == (
            f"Unless it is done there: copy p.json there, then {run_on(PLAN, name)}; "
            "only one plan makes one cluster."
        )
    starts = "; ".join(run_on(PLAN, name, "--start") for name in ("m1", "m2", "m3"))
    assert then == (
        "When the new directories are in place on ALL hosts, start the members, all at about the same "
        f"time: {starts}. Until then etcd, and what uses it, is held down here, across reboots too."
    )
    assert back == (
        f"To go back instead: `etcdguard restore rollback {PLAN.id}`, on EVERY host where this was run, "
        "never on some of them only."
    )


def test_after_one_host_is_started() -> None:
    assert after_host(PLAN, of_host(PLAN, "m1", phase="started"), "p.json") == (
        f"Now {run_on(PLAN, 'm2', '--start')}.",
        f"Now {run_on(PLAN, 'm3', '--start')}.",
        "Then here again: `etcdguard restore run --plan p.json --member m1 --start`, which proves the "
        "cluster and starts what uses it.",
    )


def test_after_one_host_whose_etcd_the_operator_starts() -> None:
    result = of_host(PLAN, "m1", "m2", kept=False, phase="open")
    assert after_host(PLAN, result, "p.json") == (
        f"Unless it is done there: copy p.json there, then {run_on(PLAN, 'm3')}; "
        "only one plan makes one cluster.",
        "Start etcd on ALL members now (m1, m2, m3), without waiting for the first to become healthy: "
        "none serves until 2 of them run.",
        NAMES,
        "Give /var/lib/etcd, /var/lib/etcd to the user etcd runs as: no old directory said who that is.",
        f"To go back instead: stop etcd and run `etcdguard restore rollback {PLAN.id}`, on EVERY host "
        "where this was run.",
    )


def test_after_one_host_of_a_cluster_that_is_proven() -> None:
    result = of_host(PLAN, "m1", phase="open", proof=PROOF, fresh_backup="b")
    assert after_host(PLAN, result, "p.json") == (
        f"If that has not ended yet, {run_on(PLAN, 'm2', '--start')}.",
        f"If that has not ended yet, {run_on(PLAN, 'm3', '--start')}.",
        CLEAN_UP.format(PLAN.id, ", on every host"),
    )


def test_after_a_cluster_that_the_operator_starts() -> None:
    assert after_cluster(KUBERNETES, of_cluster(KUBERNETES)) == (
        "Start etcd on ALL members now (m1, m2), without waiting for the first to become healthy: "
        "none serves until 2 of them run.",
        NAMES,
        "Once etcd serves, restart every kube-apiserver, then kube-controller-manager and "
        "kube-scheduler: their caches are from the time after the backup.",
        CLEAN_UP.format(KUBERNETES.id, ""),
    )


def test_after_a_cluster_of_one() -> None:
    one = plan_of(make_manifest(), TWO[:1], Choices(leave_out=frozenset({"m2", "m3"})))
    assert after_cluster(one, of_cluster(one, kept=False)) == (
        "Start etcd on m1 now.",
        NAMES,
        "Give /var/lib/etcd to the user etcd runs as: no old directory said who that is.",
    )


def test_after_a_cluster_that_is_proven() -> None:
    proven = of_cluster(KUBERNETES, proof=PROOF)
    assert after_cluster(KUBERNETES, proven) == (
        "Restart what watches the API and was not restarted with it: kube-proxy, the CNI, operators. "
        "Endpoints of `default/kubernetes` may name API servers that are gone for up to 15 s.",
        "Take a backup now: `etcdguard backup`. The older ones are of the old cluster.",
        CLEAN_UP.format(KUBERNETES.id, ""),
    )
    assert after_cluster(PLAN, of_cluster(PLAN, kept=False, proof=PROOF, fresh_backup="b")) == ()


def test_after_one_host_was_put_back() -> None:
    assert after_host_rollback(PLAN, ["m1"]) == (
        f"Run `etcdguard restore rollback {PLAN.id}` on EVERY other host where the plan was run (of "
        "m2, m3): only all of them together are the old cluster again.",
    )
    assert after_host_rollback(PLAN, ["m3", "m1", "m2"]) == ()
