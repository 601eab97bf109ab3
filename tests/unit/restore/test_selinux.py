"""When restored files are labelled, and what is refused. The restorecon here is a script that takes notes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.selinux import SELinux
from tests.unit.restore.world import NAMES, World


@pytest.fixture
def selinux(tmp_path: Path) -> SELinux:
    """Enforcing, with a restorecon."""
    (tmp_path / "enforce").write_text("1")
    made = SELinux(enforce=tmp_path / "enforce", search_path=str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    _restorecon(made, f'echo "$@" >>{tmp_path}/labelled')
    return made


def _restorecon(selinux: SELinux, command: str) -> None:
    script = Path(selinux.search_path, "restorecon")
    script.write_text(f"#!/bin/sh\n{command}\n")
    script.chmod(0o755)


def _labelled(selinux: SELinux) -> list[str]:
    notes = selinux.enforce.with_name("labelled")
    return notes.read_text().splitlines() if notes.exists() else []


@pytest.mark.parametrize("mode", ["0", "1\n"])
def test_where_selinux_is_enabled_trees_are_labelled(selinux: SELinux, mode: str) -> None:
    """Also where it only warns: it may be switched to deny."""
    selinux.enforce.write_text(mode)

    selinux.check()
    selinux.relabel([Path("/var/lib/etcd"), Path("/wal dir")])

    assert _labelled(selinux) == ["-R /var/lib/etcd", "-R /wal dir"]


def test_where_it_is_disabled_nothing_is_run_or_needed(selinux: SELinux) -> None:
    selinux.enforce.unlink()

    selinux.check()
    selinux.relabel([Path("/var/lib/etcd")])

    assert _labelled(selinux) == []


def test_enforcing_without_restorecon_is_refused(selinux: SELinux) -> None:
    without = replace(selinux, search_path="/nowhere")

    with pytest.raises(Refused, match="SELinux is enforcing, and there is no restorecon") as refused:
        without.check()
    assert "policycoreutils" in refused.value.hint
    with pytest.raises(Refused):
        without.relabel([Path("/var/lib/etcd")])

    selinux.enforce.write_text("0")
    without.check()
    without.relabel([Path("/var/lib/etcd")])


def test_a_restorecon_that_fails_is_told(selinux: SELinux) -> None:
    _restorecon(selinux, "echo denied by policy >&2; exit 1")

    with pytest.raises(EtcdGuardError, match="restorecon -R /var/lib/etcd failed: denied by policy"):
        selinux.relabel([Path("/var/lib/etcd")])


# -- in a restore --------------------------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.make(tmp_path / "world")


def test_a_restore_labels_what_it_puts_into_place(world: World, selinux: SELinux) -> None:
    """Of a mount point only the new contents: what is kept in it keeps its labels too."""
    root = world.root
    mounted = root / "data" / "m1"

    world.with_machine(selinux=selinux, is_mount=lambda path: path == mounted).run()

    expected = [root / "data/m1/member", root / "data/m2", root / "wal/m2", root / "data/m3"]
    assert _labelled(selinux) == [f"-R {path}" for path in expected]


def test_a_restore_that_could_not_label_is_refused_before_anything_changes(
    world: World, selinux: SELinux
) -> None:
    before = world.files()

    with pytest.raises(Refused, match="SELinux is enforcing"):
        world.with_machine(selinux=replace(selinux, search_path="/nowhere")).run()

    assert world.files() == before


def test_labels_that_fail_put_everything_back(world: World, selinux: SELinux) -> None:
    _restorecon(selinux, f'case "$2" in *{NAMES[2]}) exit 1; esac')
    before = world.files()

    with pytest.raises(EtcdGuardError, match="restorecon"):
        world.with_machine(selinux=selinux).run()

    assert world.files() == before


def test_a_restorecon_without_end_is_given_up(selinux: SELinux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdguard.restore.selinux._TIMEOUT", 0.05)
    _restorecon(selinux, "exec sleep 600")
    with pytest.raises(EtcdGuardError, match=r"it did not end within 0\.05 s"):
        selinux.relabel([Path("/var/lib/etcd")])
