"""What the operator must do next, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.result import ClusterResult, RestoreResult

__all__ = ["after_cluster", "next_steps", "remaining"]


def remaining(plan: RestorePlan, here: Sequence[str]) -> tuple[str, ...]:
    """The plan's members that are not among those handled on this machine."""
    return tuple(member.name for member in plan.members if member.name not in here)


def next_steps(plan: RestorePlan, result: RestoreResult, plan_file: str | None) -> tuple[str, ...]:
    """What is left to do, in order. ``plan_file`` is what the other hosts need, where there are others."""
    others = remaining(plan, [member.name for member in result.members])
    names = ", ".join(member.name for member in plan.members)
    quorum = len(plan.members) // 2 + 1
    steps = []
    for name in others:
        steps.append(
            f"If {name} is not restored yet: copy {plan_file} to its host and run there "
            f"`etcdguard restore run --plan {plan_file} --member {name}`; only one plan makes one cluster."
        )
    if len(plan.members) == 1:
        steps.append(f"Start etcd on {names} now.")
    else:
        steps.append(
            f"Start etcd on ALL members now ({names}), without waiting for the first to become healthy: "
            f"none serves until {quorum} of them run."
        )
    steps.append(
        "Leave names and peer URLs as they are; etcd takes the new cluster from its data directory and "
        "ignores --initial-cluster, --initial-cluster-state and --initial-cluster-token."
    )
    if plan.kubernetes:
        steps.append(
            "Once etcd serves, restart every kube-apiserver, then kube-controller-manager and "
            "kube-scheduler: their caches are from the time after the backup."
        )
    bare = [member.data_dir for member in result.members if not member.kept]
    if bare:
        steps.append(f"Give {', '.join(bare)} to the user etcd runs as: no old directory said who that is.")
    if any(member.kept for member in result.members):
        steps.append("Remove the old directories once the cluster has proven itself; nothing else does.")
    return tuple(steps)


def after_cluster(plan: RestorePlan, result: ClusterResult) -> tuple[str, ...]:
    """What is left to do after a restore over all hosts, in order."""
    if result.proof is None:
        return next_steps(plan, result, None)
    steps = []
    if plan.kubernetes:
        steps.append(
            "Restart what watches the API and was not restarted with it: kube-proxy, the CNI, operators. "
            "Endpoints of `default/kubernetes` may name API servers that are gone for up to 15 s."
        )
    steps.append("Take a backup now: `etcdguard backup`. The older ones are of the old cluster.")
    if any(member.kept for member in result.members):
        steps.append(
            "Once all is well, delete the old directories: "
            f"`etcdguard restore cleanup {plan.id}`; nothing else does."
        )
    return tuple(steps)
