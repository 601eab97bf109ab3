"""What ``member replace`` shows, and the run that it goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.cli.member import _plan_table, _result_table, _same
from etcdguard.errors import UsageError
from etcdguard.restore.replace.run import replace_member
from tests.unit.restore.replacing import NEW, REMOVED, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_plan_as_it_is_shown(world: World) -> None:
    plan = world.plan()
    shown = _plan_table(plan).splitlines()
    facts = dict(line.split(None, 1) for line in shown[:7] if not line.startswith(("peer", "data", "WAL")))
    assert facts == {
        "plan": plan.id,
        "cluster": "prod (cafe)",
        "member": "m3, a3",
        "service": "-",
    }
    assert f"data dir   {world.data_dir}" in shown
    assert "WAL dir    -" in shown
    assert any(line.startswith("1. ") for line in shown)
    assert "m3, already removed" in _plan_table(world.plan(REMOVED))


def test_the_result_as_it_is_shown(world: World) -> None:
    plan = world.plan()
    shown = _result_table(replace_member(plan, world.environment()))
    assert f"m3, a3 becomes {NEW}" in shown
    assert plan.asides[0].kept in shown
    assert "on all 3" in shown
    last = shown.splitlines()[-1]
    assert last.startswith("stop ")
    assert ", add " in last


def test_a_run_that_was_cut_off_keeps_its_directories(world: World) -> None:
    plan = world.plan()
    for flags in (
        {"data_dir": None, "wal_dir": None},
        {"data_dir": plan.member.data_dir, "wal_dir": None},
    ):
        assert _same(plan, flags) is plan
    with pytest.raises(UsageError) as other:
        _same(plan, {"data_dir": "/elsewhere", "wal_dir": None})
    assert other.value.message == f"an earlier run has begun with {plan.member.data_dir}, not /elsewhere"
    assert other.value.hint == "run it again without --data-dir, and it goes on"
    with pytest.raises(UsageError) as separate:
        _same(plan, {"data_dir": None, "wal_dir": "/wal"})
    assert separate.value.message == "an earlier run has begun with no separate directory, not /wal"
    assert "--wal-dir" in separate.value.hint
