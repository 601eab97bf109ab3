"""Gate: what the tool wrote must be what the plan predicted, or the members would never find each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from etcdguard.errors import Corruption
from etcdguard.etcd.wal import WalMetadata
from etcdguard.restore.plan import PlannedMember, RestorePlan

__all__ = ["check_ids"]


def check_ids(
    plan: RestorePlan,
    members: Sequence[PlannedMember],
    read_wal: Callable[[Path], WalMetadata],
    *,
    staged: bool,
) -> None:
    """Compare the ids in each member's WAL, staged or in place, with the plan; raises Corruption."""
    for member in members:
        found = read_wal(_wal_folder(member, staged=staged))
        expected = WalMetadata(member_id=member.member_id, cluster_id=plan.cluster_id)
        if found != expected:
            raise Corruption(
                f"{member.name} was restored as member {found.member_id} of cluster {found.cluster_id}, "
                f"not {expected.member_id} of {expected.cluster_id} as planned",
                hint="check that etcdutl is an unmodified release; report this if it is",
            )
        if found.cluster_id == plan.old_cluster_id:
            raise Corruption(
                f"{member.name} came out with the old cluster's id {found.cluster_id}",
                hint="make a new plan, whose token is fresh, with `etcdguard restore plan`",
            )


def _wal_folder(member: PlannedMember, *, staged: bool) -> Path:
    place = member.wal_place or member.data_place
    top = place.staged if staged else place.target
    return top if member.wal_place is not None else top / "member" / "wal"
