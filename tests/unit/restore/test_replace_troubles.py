"""What may happen to the cluster in the middle of a replacement."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.errors import ClusterUnhealthy
from etcdguard.restore.replace.run import replace_member
from tests.unit.restore.replacing import NEW, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_quorum_that_is_lost_for_a_moment_is_waited_for(world: World) -> None:
    change = world.cluster.remove_member
    waits: list[float] = []

    def remove(endpoint: str, member_id: str) -> None:
        change(endpoint, member_id)
        world.cluster.quorum = False

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        world.cluster.quorum = True

    world.cluster.remove_member = remove  # type: ignore[method-assign]
    assert replace_member(world.plan(), world.environment(sleep=sleep)).member_id == NEW
    assert waits


def test_data_that_cannot_be_compared_is_no_success(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.cluster, "hash_kv", lambda *_: None)
    with pytest.raises(ClusterUnhealthy, match="the members' data could not be compared") as error:
        replace_member(world.plan(), world.environment())
    assert "has joined and votes" in error.value.hint
    assert world.cluster.calls == ["remove", "add", "promote"]
