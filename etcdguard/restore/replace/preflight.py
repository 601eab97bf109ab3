"""Whether a member may be replaced: everything that speaks against it, found before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.etcd.reach import reach
from etcdguard.model import ClusterTopology, MemberStatus
from etcdguard.restore.files import account
from etcdguard.restore.machine import Machine
from etcdguard.restore.quorum import answers
from etcdguard.restore.replace import directories
from etcdguard.restore.replace.environment import ReplaceEnvironment
from etcdguard.restore.replace.plan import ReplacePlan, joining, others
from etcdguard.restore.replace.survey import reachable

__all__ = ["check_ready", "check_stopped"]


def check_ready(
    plan: ReplacePlan, topology: ClusterTopology, environment: ReplaceEnvironment, *, resumed: bool
) -> Iterator[EtcdGuardError]:
    """One error for everything that speaks against it. ``resumed``: this plan has been begun before."""
    yield from _quorum(plan, topology, environment)
    yield from _learners(plan, topology)
    if not resumed:
        yield from _lost(plan, topology, environment)
    yield from directories.check(plan, environment.machine)
    yield from _wrong_host(plan, topology, environment)
    yield from _owner(plan, environment.machine)
    if environment.service is not None:
        try:
            environment.service.check()
        except EtcdGuardError as error:
            yield error
    elif joining(plan, topology) is None:
        yield from check_stopped(plan, environment.machine)


def check_stopped(plan: ReplacePlan, machine: Machine) -> Iterator[EtcdGuardError]:
    """One error for everything that shows that the member still runs here."""
    member = plan.member
    hint = "stop etcd on this machine, and whatever would start it again, then run this again"
    open_at = [url for url in (*member.peer_urls, *member.client_urls) if answers(url, machine)]
    if open_at:
        yield Refused(f"something listens at {', '.join(open_at)}, where {member.name} would", hint=hint)
    for aside in plan.asides:
        for holder in machine.holders(Path(aside.directory)):
            yield Refused(f"{holder} uses {aside.directory}", hint=hint)


def _quorum(
    plan: ReplacePlan, topology: ClusterTopology, environment: ReplaceEnvironment
) -> Iterator[EtcdGuardError]:
    """The others must have a quorum among themselves, and keep it while they are all there is."""
    staying = others(plan, topology)
    found = reachable(environment.cluster, staying)
    down = [name for name, answer in found.items() if not isinstance(answer, MemberStatus)]
    needed = len(staying) // 2 + 1
    if len(staying) - len(down) < needed:
        yield Refused(
            f"without {plan.member.name}, {needed} of {len(staying)} members must run, "
            f"and these do not answer: {', '.join(down) or 'there is no other'}",
            hint="bring them back first; when that is impossible, the way is `etcdguard restore`",
        )


def _learners(plan: ReplacePlan, topology: ClusterTopology) -> Iterator[EtcdGuardError]:
    new = joining(plan, topology)
    for member in topology.members:
        if member.is_learner and (new is None or member.id != new.id):
            yield Refused(
                f"the cluster has a learner already, {member.name or member.id}, and takes one at a time",
                hint="promote it or remove it with etcdctl first",
            )


def _lost(
    plan: ReplacePlan, topology: ClusterTopology, environment: ReplaceEnvironment
) -> Iterator[EtcdGuardError]:
    """A member that answers as itself is not lost: only its operator may stop it."""
    if plan.old_member_id is None:
        return
    answer = reach(environment.cluster.status, plan.old_member_id, plan.member.client_urls)
    if isinstance(answer, MemberStatus) and (answer.member_id, answer.cluster_id) == (
        plan.old_member_id,
        topology.cluster_id,
    ):
        yield Refused(
            f"{plan.member.name} runs: it answers at {answer.endpoint}",
            hint="to replace it nevertheless, stop it first on its host",
        )


def _wrong_host(
    plan: ReplacePlan, topology: ClusterTopology, environment: ReplaceEnvironment
) -> Iterator[EtcdGuardError]:
    ids = directories.found_ids(plan.member, environment.read_wal)
    if ids is None or ids.cluster_id != topology.cluster_id:
        return
    owner = next((one for one in others(plan, topology) if one.id == ids.member_id), None)
    if owner is not None:
        yield Refused(
            f"{plan.member.data_dir} holds the data of {owner.name}, which is not to be replaced",
            hint=f"run this on the host of {plan.member.name}, or name its directory with --data-dir",
        )


def _owner(plan: ReplacePlan, machine: Machine) -> Iterator[EtcdGuardError]:
    service = plan.member.service
    if machine.uid == 0 and service is not None and service.user is not None:
        try:
            account(service.user, service.group)
        except Refused as error:
            yield error
