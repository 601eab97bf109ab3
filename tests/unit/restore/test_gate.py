"""The ids in what was restored are those planned, and never the old cluster's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from etcdguard.errors import Corruption
from etcdguard.etcd.wal import WalMetadata
from etcdguard.restore.gate import check_ids
from tests.unit.restore.world import World


def _always(found: WalMetadata, _: Path) -> WalMetadata:
    return found


def test_ids_that_are_not_as_planned(tmp_path: Path) -> None:
    plan = World.make(tmp_path).plan
    (member,) = plan.members[:1]
    right = WalMetadata(member.member_id, plan.cluster_id)
    check_ids(plan, [member], lambda _: right, staged=True)
    wrongs = [WalMetadata("beef", plan.cluster_id), WalMetadata(member.member_id, "beef")]
    for wrong in wrongs:
        with pytest.raises(Corruption, match=r"m1 was restored as member .* as planned"):
            check_ids(plan, [member], partial(_always, wrong), staged=True)


def test_a_cluster_must_not_come_out_with_its_old_id(tmp_path: Path) -> None:
    """Members of the old one that are still somewhere would take it for theirs."""
    plan = World.make(tmp_path).plan
    (member,) = plan.members[:1]
    same = plan.model_copy(update={"old_cluster_id": plan.cluster_id})
    found = WalMetadata(member.member_id, plan.cluster_id)
    with pytest.raises(Corruption, match="m1 came out with the old cluster's id") as error:
        check_ids(same, [member], lambda _: found, staged=False)
    assert "new plan" in error.value.hint
