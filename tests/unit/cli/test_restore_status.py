"""``restore status`` and ``restore rollback`` before there is anything to ask a host."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import pytest

from etcdguard.restore.journal import Journal
from etcdguard.restore.node import JOURNAL as HOST_JOURNAL
from etcdguard.restore.orchestrate import JOURNAL
from tests.unit.cli.running import MINIMAL, run

OLD, NEW = "20261120T020000Z-00000000", "20261121T020000Z-9f31c2aa"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"{MINIMAL}restore: {{state_dir: {tmp_path}/state}}\n")
    return path


def test_where_no_restore_was_begun(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--config", config, "restore", "status") == 0
    assert capsys.readouterr().out == "no restore was begun here\n"


def test_the_restores_a_machine_knows_of(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that was orchestrated from here, and one that only came by; each says where it stands."""
    state = config.parent / "state"

    def journal(plan: str, name: str) -> Journal:
        return Journal(state / plan / name, lambda: datetime(2026, 11, 21, tzinfo=timezone.utc))

    journal(OLD, HOST_JOURNAL).append("staging", plan={}, members=["m1"], mounts=[])
    journal(OLD, HOST_JOURNAL).append("staged")
    journal(NEW, JOURNAL).append("begin", phase="stage")
    journal(NEW, JOURNAL).append("begin", phase="swap")

    assert run("--config", config, "restore", "status", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["plans"] == [
        {"plan": OLD, "orchestrated": None, "host": "staged"},
        {"plan": NEW, "orchestrated": "swap", "host": None},
    ]
    assert run("--config", config, "restore", "status") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[-2:]] == [[OLD, "-", "staged"], [NEW, "swap", "-"]]


@pytest.mark.parametrize("command", ["status", "rollback", "cleanup"])
def test_a_plan_nobody_has_begun_here(config: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run("--config", config, "restore", command, NEW) == 64
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert NEW in error
    assert hint.startswith("hint: ")
