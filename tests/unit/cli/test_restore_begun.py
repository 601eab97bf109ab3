"""A restore that was begun on this machine: looking at it, going back, cleaning up."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from etcdguard.model import Member
from tests.unit.cli.running import MINIMAL, run
from tests.unit.restore.world import World


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def nowhere(name: str) -> Member:
    """A member that nobody answers for: port 1 of this machine."""
    number = name[-1]
    return Member(
        id=number,
        name=name,
        peer_urls=(f"http://127.0.0.{number}:1",),
        client_urls=(f"http://127.0.0.{number}:1",),
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "disk", [nowhere(name) for name in ("m1", "m2", "m3")])


@pytest.fixture
def config(tmp_path: Path, world: World) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(f"{MINIMAL}restore: {{state_dir: {world.root}-state}}\n")
    return path


@pytest.fixture
def begun(world: World) -> World:
    """m1 is restored here; without services that is all there is to do."""
    world.run("m1")
    return world


def test_where_one_host_and_its_neighbours_stand(
    begun: World, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--config", config, "restore", "status", begun.plan.id, "-o", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["plan"], found["phase"]) == (begun.plan.id, "reopened")
    assert list(found["hosts"].values()) == [
        {"phase": "reopened", "problem": None},
        {"phase": None, "problem": "not reached from here; m2 does not answer; m3 does not answer"},
    ]

    assert run("--config", config, "restore", "status", begun.plan.id) == 0
    first, _, head, here, elsewhere = capsys.readouterr().out.splitlines()
    assert first == f"{begun.plan.id}: reopened"
    assert head.split() == ["HOST", "PHASE", "PROBLEM"]
    assert here.split()[1:] == ["reopened"]
    assert elsewhere.split()[:3] == ["cp1", "?", "not"]


def test_a_rollback_says_before_and_after_what_is_to_be_done_elsewhere(
    begun: World, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = begun.files()
    assert run("--config", config, "restore", "rollback", begun.plan.id) == 64
    assert "nobody is there to confirm it" in capsys.readouterr().err
    assert begun.files() == before

    assert run("--config", config, "restore", "rollback", begun.plan.id, "--yes") == 0
    lines = capsys.readouterr().err.splitlines()
    done = f"{begun.plan.id} is rolled back here: this host is as it was before"
    at = lines.index(done)
    told = [line for line in lines[:at] if not line.startswith("{")]
    assert told
    assert lines[at + 1 :] == told, "the operator is told before, and reminded after"
    db = begun.root / "data" / "m1" / "member" / "snap" / "db"
    assert db.read_text() == "old data of m1"


def test_a_no_changes_nothing(
    begun: World, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = begun.files()
    for command in ("rollback", "cleanup"):
        monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
        assert run("--config", config, "restore", command, begun.plan.id) == 15
        err = capsys.readouterr().err
        assert begun.plan.id in err
        assert "error: it was not confirmed" in err
    assert begun.files() == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert run("--config", config, "restore", "rollback", begun.plan.id) == 0
    assert begun.files() != before
