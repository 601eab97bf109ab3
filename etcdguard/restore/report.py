"""What the operator must do next, in words. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.result import ClusterResult, HostResult, RestoreResult

__all__ = ["after_cluster", "after_host", "after_host_rollback", "elsewhere", "remaining", "run_command_line"]


def remaining(plan: RestorePlan, here: Sequence[str]) -> tuple[str, ...]:
    """The plan's members that are not among those handled on this machine."""
    return tuple(member.name for member in plan.members if member.name not in here)


def run_command_line(plan_file: str, names: Sequence[str], *flags: str) -> str:
    """The command that does a host's part of the plan, for the members that live there."""
    members = (word for name in names for word in ("--member", name))
    return shlex.join(["etcdguard", "restore", "run", "--plan", plan_file, *members, *flags])


def elsewhere(plan: RestorePlan, names: Sequence[str], plan_file: str, *flags: str) -> tuple[str, ...]:
    """For each host of these members what to run there: ``on HOST: `COMMAND```."""
    hosts: dict[str, list[str]] = {}
    for member in (plan.member(name) for name in names):
        where = f"the host of {member.name}" if member.host is None else member.host
        hosts.setdefault(where, []).append(member.name)
    return tuple(
        f"on {where}: `{run_command_line(plan_file, found, *flags)}`" for where, found in hosts.items()
    )


def after_host(plan: RestorePlan, result: HostResult, plan_file: str) -> tuple[str, ...]:
    """What is left to do after one host's part, in order. Every host needs a copy of ``plan_file``."""
    here = [member.name for member in result.members]
    others = remaining(plan, here)
    first = (
        f"Unless it is done there: copy {plan_file} there, then {one}; only one plan makes one cluster."
        for one in elsewhere(plan, others, plan_file)
    )
    back = f"etcdguard restore rollback {plan.id}"
    if result.phase == "held":
        return (
            *first,
            "When the new directories are in place on ALL hosts, start the members, all at about the same "
            f"time: {'; '.join(elsewhere(plan, [*here, *others], plan_file, '--start'))}. Until then etcd, "
            "and what uses it, is held down here, across reboots too.",
            f"To go back instead: `{back}`, on EVERY host where this was run, never on some of them only.",
        )
    if result.phase == "started":
        return (
            *(f"Now {one}." for one in elsewhere(plan, others, plan_file, "--start")),
            f"Then here again: `{run_command_line(plan_file, here, '--start')}`, which proves the cluster "
            "and starts what uses it.",
        )
    if result.proof is None:
        return (
            *first,
            *_by_hand(plan, result),
            f"To go back instead: stop etcd and run `{back}`, on EVERY host where this was run.",
        )
    return (
        *(f"If that has not ended yet, {one}." for one in elsewhere(plan, others, plan_file, "--start")),
        *_proven(plan, result),
    )


def after_host_rollback(plan: RestorePlan, here: Sequence[str]) -> tuple[str, ...]:
    """What is left to do once one host was put back, in order."""
    others = remaining(plan, here)
    if not others:
        return ()
    return (
        f"Run `etcdguard restore rollback {plan.id}` on EVERY other host where the plan was run (of "
        f"{', '.join(others)}): only all of them together are the old cluster again.",
    )


def after_cluster(plan: RestorePlan, result: ClusterResult) -> tuple[str, ...]:
    """What is left to do after a restore over all hosts, in order."""
    return tuple(_by_hand(plan, result) if result.proof is None else _proven(plan, result))


def _by_hand(plan: RestorePlan, result: RestoreResult) -> Iterator[str]:
    """Where the operator starts etcd."""
    names = ", ".join(member.name for member in plan.members)
    if len(plan.members) == 1:
        yield f"Start etcd on {names} now."
    else:
        yield (
            f"Start etcd on ALL members now ({names}), without waiting for the first to become healthy: "
            f"none serves until {len(plan.members) // 2 + 1} of them run."
        )
    yield (
        "Leave names and peer URLs as they are; etcd takes the new cluster from its data directory and "
        "ignores --initial-cluster, --initial-cluster-state and --initial-cluster-token."
    )
    if plan.kubernetes:
        yield (
            "Once etcd serves, restart every kube-apiserver, then kube-controller-manager and "
            "kube-scheduler: their caches are from the time after the backup."
        )
    bare = [member.data_dir for member in result.members if not member.kept]
    if bare:
        yield f"Give {', '.join(bare)} to the user etcd runs as: no old directory said who that is."
    yield from _cleanup(plan, result)


def _proven(plan: RestorePlan, result: RestoreResult) -> Iterator[str]:
    if plan.kubernetes:
        yield (
            "Restart what watches the API and was not restarted with it: kube-proxy, the CNI, operators. "
            "Endpoints of `default/kubernetes` may name API servers that are gone for up to 15 s."
        )
    if result.fresh_backup is None:
        yield "Take a backup now: `etcdguard backup`. The older ones are of the old cluster."
    yield from _cleanup(plan, result)


def _cleanup(plan: RestorePlan, result: RestoreResult) -> Iterator[str]:
    if any(member.kept for member in result.members):
        where = ", on every host" if isinstance(result, HostResult) else ""
        yield (
            "Once all is well, delete the old directories: "
            f"`etcdguard restore cleanup {plan.id}`{where}; nothing else does."
        )
