"""All judgments of a cluster, in the order they are read. Pure."""

from __future__ import annotations

from etcdguard.maintenance.checks import latency, members, space, trust
from etcdguard.maintenance.checks.facts import ClusterFacts
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.maintenance.defrag.facts import Policy
from etcdguard.maintenance.results import CheckResult

__all__ = ["judge_cluster"]


def judge_cluster(
    facts: ClusterFacts, thresholds: Thresholds, policy: Policy | None = None
) -> list[CheckResult]:
    """One line for each check, whatever could be found out; ``policy`` says when to defragment."""
    return [
        members.identity(facts),
        members.members(facts),
        members.quorum(facts),
        members.leader(facts),
        members.alarms(facts),
        trust.hash_kv(facts),
        members.versions(facts),
        members.metrics(facts),
        members.leader_changes(facts, thresholds),
        members.unapplied(facts, thresholds),
        members.failed_proposals(facts, thresholds),
        latency.wal_fsync(facts, thresholds),
        latency.backend_commit(facts, thresholds),
        latency.peer_round_trip(facts, thresholds),
        space.database_quota(facts, thresholds),
        space.quota_forecast(facts, thresholds),
        space.quota_size(facts),
        space.fragmentation(facts, policy or Policy()),
        space.disk(facts, thresholds),
        space.key_growth(facts, thresholds),
        space.value_size(facts, thresholds),
        space.prefix_share(facts, thresholds),
        trust.certificates(facts.certificates, facts.now, thresholds),
        trust.clock(facts, thresholds),
    ]
