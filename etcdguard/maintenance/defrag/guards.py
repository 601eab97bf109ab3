"""What speaks against a defragmentation, before it and after it. Pure.

Two kinds: the cluster is not fit (exit code 5), or a rule says no (exit code 15). Everything is found, not
only the first thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, Refused
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.facts import (
    CORRUPT,
    NOSPACE,
    History,
    MemberFacts,
    Policy,
    Survey,
)
from etcdguard.maintenance.defrag.select import Decision

__all__ = ["Problem", "breaches", "in_the_way", "raise_problems", "unfit", "version_problem"]

_NO_LEADER = "0"
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+].*)?")
_OLDEST = (3, 4, 0)
_UNSAFE = ((3, 5, 0), (3, 5, 5))
_HINT_HEALTH = "repair the cluster first (etcdctl endpoint status, etcdguard check), then run it again"


@dataclass(frozen=True)
class Problem:
    """One thing that speaks against it."""

    text: str
    hint: str = _HINT_HEALTH
    rule: bool = False
    """A rule says no, where else the cluster is not fit."""


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise for all of them together, if there are any: ClusterUnhealthy before Refused."""
    if not problems:
        return
    worst = next((one for one in problems if not one.rule), problems[0])
    kind: type[EtcdGuardError] = Refused if worst.rule else ClusterUnhealthy
    raise kind(f"no member is defragmented: {'; '.join(one.text for one in problems)}", hint=worst.hint)


# -- the cluster ---------------------------------------------------------------------------------------------


def unfit(survey: Survey, policy: Policy) -> list[Problem]:
    """Why the cluster could not do without a member for a while; empty when it could."""
    return [
        *_membership(survey, policy),
        *_leadership(survey),
        *_alarms(survey),
        *_progress(survey, policy),
    ]


def _membership(survey: Survey, policy: Policy) -> Iterator[Problem]:
    for stranger in survey.strangers:
        yield Problem(stranger, "configure endpoints of one cluster only (cluster.endpoints)")
    for one in survey.members:
        problem = None if one.status is None else version_problem(one.name, one.status.version)
        if problem is not None:
            yield problem
        if one.member.is_learner:
            yield Problem(
                f"{one.name} is a learner: the cluster's members are being changed",
                "promote or remove the learner first (etcdctl member promote|remove)",
                rule=True,
            )
        elif one.failure is not None:
            yield Problem(f"{one.name} does not serve: {one.failure}")
        if one.busy is not None:
            yield Problem(
                f"{one.name} {one.busy}, and its database cannot be closed before that ends",
                "wait for it to end, then run it again",
                rule=True,
            )
    voters = len(survey.voters)
    if voters < 3 and not policy.small_clusters:
        yield Problem(
            f"with {voters} voter{'s' if voters > 1 else ''}, everything stops while one is defragmented",
            "set defrag.small_clusters: true where that may be",
            rule=True,
        )


def version_problem(name: str, version: str) -> Problem | None:
    """Why a member of that version must not be defragmented while it runs."""
    match = _VERSION.fullmatch(version)
    if match is None:
        return Problem(f"{name} runs etcd {version!r}, which is no version that is known", rule=True)
    found = (int(match[1]), int(match[2]), int(match[3]))
    if _UNSAFE[0] <= found <= _UNSAFE[1]:
        return Problem(
            f"{name} runs etcd {version}: a crash during its defragmentation loses data (etcd issue 14733)",
            "upgrade etcd to 3.5.6 or later first",
            rule=True,
        )
    if found < _OLDEST:
        return Problem(
            f"{name} runs etcd {version}, which is not supported",
            f"upgrade etcd to {'.'.join(map(str, _OLDEST[:2]))} or later first",
            rule=True,
        )
    return None


def _leadership(survey: Survey) -> Iterator[Problem]:
    leaders = survey.leaders
    if _NO_LEADER in leaders:
        without = [one.name for one in survey.voters if one.status and one.status.leader_id == _NO_LEADER]
        yield Problem(f"{', '.join(without)} know{'s' if len(without) == 1 else ''} no leader")
    elif len(leaders) > 1:
        yield Problem(f"the members name different leaders: {', '.join(sorted(leaders))}")
    elif leaders and survey.leader_id not in {one.id for one in survey.voters}:
        yield Problem(f"the leader {survey.leader_id} is not one of the voters")


def _alarms(survey: Survey) -> Iterator[Problem]:
    for alarm in survey.alarms:
        if alarm.kind == CORRUPT:
            member = survey.by_id(alarm.member_id)
            name = alarm.member_id if member is None else member.name
            yield Problem(
                f"the alarm CORRUPT is raised for {name}",
                f"its data differs from the others': `etcdguard member replace {name}` on its host",
            )
        elif alarm.kind != NOSPACE:
            yield Problem(f"the alarm {alarm.kind} is raised for {alarm.member_id}")
    for one in survey.members:
        for error in () if one.status is None else one.status.errors:
            if Alarm.parse(error) is None:
                yield Problem(f"{one.name} reports {error!r}")


def _progress(survey: Survey, policy: Policy) -> Iterator[Problem]:
    applied = {}
    for one in survey.voters:
        if one.status is None:
            continue
        applied[one.name] = one.status.raft_applied_index
        waiting = one.status.raft_index - one.status.raft_applied_index
        if waiting > policy.max_unapplied:
            yield Problem(f"{one.name} has {waiting} entries to apply, more than {policy.max_unapplied}")
    if applied:
        last, first = min(applied, key=applied.__getitem__), max(applied, key=applied.__getitem__)
        behind = applied[first] - applied[last]
        if behind > policy.max_spread:
            yield Problem(f"{last} is {behind} entries behind {first}, more than {policy.max_spread}")


# -- the members to be defragmented --------------------------------------------------------------------------


def in_the_way(decisions: Iterable[Decision], policy: Policy, history: History) -> list[Problem]:
    """Rules that forbid to defragment the members chosen."""
    chosen = [one.member for one in decisions if one.chosen]
    found = [problem for one in chosen for problem in _of_member(one, policy)]
    if chosen and history.failures >= policy.max_failures:
        found.append(
            Problem(
                f"the last {history.failures} runs failed",
                "see why (the events `defrag` in the repository, the logs); then pass --ignore-failures once",
                rule=True,
            )
        )
    return found


def _of_member(facts: MemberFacts, policy: Policy) -> Iterator[Problem]:
    status = facts.status
    if status is None:
        return
    estimate = policy.estimate(status.db_size)
    if estimate > policy.max_duration:
        yield Problem(
            f"{facts.name} would be blocked for about {estimate:.0f} s, more than {policy.max_duration:g} s",
            "a liveness probe may kill etcd meanwhile: see to that, then raise defrag.max_duration",
            rule=True,
        )
    needed = policy.disk_needed(status.db_size_in_use or status.db_size)
    if facts.disk_free is not None and facts.disk_free < needed:
        yield Problem(
            f"{facts.name} has {_mib(facts.disk_free)} of disk left and needs {_mib(needed)}",
            "make room on the disk of its data directory first",
            rule=True,
        )


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


# -- while it goes on ----------------------------------------------------------------------------------------


def breaches(before: Survey, now: Survey) -> list[str]:
    """What has happened to the cluster that ends the run at once; ``before`` has our own change of leader."""
    found = []
    if now.topology.cluster_id != before.topology.cluster_id:
        found.append(f"another cluster answers: {now.topology.cluster_id}")
    lost = {one.id: one.name for one in before.voters}
    for one in now.voters:
        lost.pop(one.id, None)
    found += [f"{name} is no voter any more" for name in lost.values()]
    for alarm in now.alarms:
        tolerated = alarm.kind == NOSPACE and before.nospace
        if alarm not in before.alarms and not tolerated:
            found.append(f"the alarm {alarm.kind} was raised for {alarm.member_id}")
    elected = now.leader_id
    same = (elected, now.term) == (before.leader_id, before.term)
    if elected not in (None, _NO_LEADER) and not same:
        found.append(f"the leader changed, and not by us: {before.leader_id} to {elected}")
    return found
