"""What ``restore`` refuses before it looks at anything, and what it asks a person for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from etcdguard.restore.plan import write_plan
from tests.unit.cli.running import MINIMAL, run
from tests.unit.cli.test_restore_begun import Terminal
from tests.unit.restore.fleet import Fleet
from tests.unit.restore.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "disk")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Its only repository is not there."""
    path = tmp_path / "config.yaml"
    path.write_text(
        f"{MINIMAL}restore: {{state_dir: {tmp_path}/state}}\n"
        f"repositories: [{{name: first, file: {{path: {tmp_path}/nowhere}}}}]\n"
    )
    return path


def written(world: World | Fleet, folder: Path) -> Path:
    path = folder / "plan.json"
    path.write_bytes(write_plan(world.plan))
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "say which members live on this machine"),
        (("--all", "--member", "m1"), "say which members live on this machine"),
        (("--all", "--start"), "--start goes with --member"),
        (("--member", "m1", "--no-wait"), "--no-wait goes with --start"),
        (("--member", "m1"), "nobody is there to confirm it"),
        (("--member", "m1", "--yes", "--start"), "--start needs members[].service"),
        (("--member", "m1", "--yes", "--member", "m9"), "m9"),
    ],
)
def test_flags_that_do_not_go_together(
    world: World,
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    flags: tuple[str, ...],
    message: str,
) -> None:
    plan = written(world, tmp_path)
    if flags[:1] == ("--member",) and "--yes" in flags and "m9" not in flags:
        flags = (*flags, "--member", "m2", "--member", "m3")
    before = world.files()
    assert run("--config", config, "restore", "run", "--plan", plan, *flags) == 64
    error, hint = capsys.readouterr().err.splitlines()
    assert message in error
    assert hint.startswith("hint: ")
    assert world.files() == before
    assert not (tmp_path / "state").exists()


def test_members_of_one_machine_go_together(
    world: World, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = written(world, tmp_path)
    assert run("--config", config, "restore", "run", "--plan", plan, "--member", "m2", "--yes") == 64
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: m1, m3 lives on this machine too"
    assert hint.endswith("add --member m1 --member m3")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--member", "m1"), "This replaces m1 on this machine."),
        (("--all",), "This replaces m1 on cp1, m2 on cp2, m3 on cp3."),
    ],
)
def test_the_name_of_the_cluster_must_be_typed(
    tmp_path: Path,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: tuple[str, ...],
    told: str,
) -> None:
    """What the plan costs is told first, even if no repository knows how long earlier restores took."""
    fleet = Fleet.make(tmp_path / "fleet")
    before = fleet.picture()
    monkeypatch.setattr(sys, "stdin", Terminal("staging\n"))
    plan = written(fleet, tmp_path)
    assert run("--config", config, "-q", "restore", "run", "--plan", plan, *flags) == 15
    err = capsys.readouterr().err
    assert f"\n{told}\n" in err
    assert "Type the cluster's name (prod) to go on" in err
    assert "estimated downtime" in err
    assert err.endswith(
        "error: that is not the cluster's name\nhint: nothing was changed; see cluster.name\n"
    )
    assert fleet.picture() == before


def test_a_history_that_cannot_be_read_is_logged(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = Fleet.make(tmp_path / "fleet")
    monkeypatch.setattr(sys, "stdin", Terminal("staging\n"))
    plan = written(fleet, tmp_path)
    command = ("--log-format", "json", "restore", "run", "--plan", plan, "--all")
    assert run("--config", config, *command) == 15
    assert '"event": "restore.history_unreadable"' in capsys.readouterr().err
