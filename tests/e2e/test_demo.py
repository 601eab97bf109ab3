"""``etcdguard demo`` as a process: what it shows, and that it leaves nothing behind, however it ends."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.tools import bundled_search_path
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_etcd import each_etcd_version
from tests.support.measuring import unmeasured

_PHASES = ["start", "init", "write", "backup", "verify", "disaster", "restore", "restart", "prove"]
_PROOFS = ["voters", "leader", "cluster", "revision", "hash", "keys", "deletes", "lease", "write"]
_COMMAND = [sys.executable, "-m", "etcdguard", "demo"]
_ENDS_WITHIN = 60.0
_CPU_LIMIT = 9.0
"""Seconds of CPU, the members' included: about three times what was measured. It guards against a wait that
does not sleep, and against work that is done again and again; other work on the machine adds nothing to it.
"""


def _environment(**variables: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ETCDGUARD_", "ETCDCTL_"))
    }
    return kept | variables


def _demo(*args: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *map(str, args)],
        capture_output=True,
        text=True,
        env=_environment(**variables),
        timeout=_ENDS_WITHIN,
        check=False,
    )


def _processes(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """What ``--dir`` names: empty before, and to be empty after."""
    folder = tmp_path / "base"
    folder.mkdir()
    return folder


def _assert_nothing_left(base: Path) -> None:
    assert _processes(base) == []
    assert list(base.iterdir()) == []


@each_etcd_version
def test_it_is_proven_and_leaves_nothing(etcd_binaries: EtcdPrograms, base: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _demo("--etcd", etcd_binaries.folder, "--dir", base, "-o", "json")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < _CPU_LIMIT
    document = json.loads(done.stdout)
    assert document["schema_version"] == 1
    assert document["outcome"] == "proven"
    assert document["etcd"] == {
        "path": str(etcd_binaries.folder / "etcd"),
        "version": etcd_binaries.version,
    }
    assert [phase["name"] for phase in document["phases"]] == _PHASES
    assert all(phase["seconds"] > 0 and phase["happened"] for phase in document["phases"])
    assert sum(phase["seconds"] for phase in document["phases"]) == pytest.approx(
        document["seconds"], abs=0.1
    )
    assert [one["name"] for one in document["proofs"]] == _PROOFS
    assert {one["outcome"] for one in document["proofs"]} == {"ok"}
    assert next(one["found"] for one in document["proofs"] if one["name"] == "hash").endswith(
        "in the manifest"
    )
    assert document["backup"]["revision"] > 0
    assert document["kept"] is None
    told = [line.split("] ")[1].split(":")[0] for line in done.stderr.splitlines()]
    assert told == _PHASES  # and not a line besides
    _assert_nothing_left(base)


def test_the_etcd_of_the_demo_extra_does_without_any_other(base: Path) -> None:
    done = _demo("--dir", base, PATH="")

    assert done.returncode == 0, done.stderr
    phases, proofs = done.stdout.strip().split("\n\n")
    assert [line.split()[0] for line in phases.splitlines()] == ["PHASE", *_PHASES, "total"]
    assert [line.split()[:2] for line in proofs.splitlines()[1:]] == [[name, "ok"] for name in _PROOFS]
    assert bundled_search_path() in done.stderr.splitlines()[0]
    _assert_nothing_left(base)


def test_settings_for_another_cluster_do_not_matter(etcd_binaries: EtcdPrograms, base: Path) -> None:
    done = _demo(
        "--etcd",
        etcd_binaries.folder,
        "--dir",
        base,
        "-q",
        ETCDCTL_ENDPOINTS="https://192.0.2.1:2379",
        ETCDGUARD_CONFIG="/no/such/file",
        ETCD_NAME="elsewhere",
        ETCDCTL_USER="root:wrong",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_keep_keeps_what_can_be_used_afterwards(etcd_binaries: EtcdPrograms, base: Path) -> None:
    done = _demo("--etcd", etcd_binaries.folder, "--dir", base, "--keep", "-o", "json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (folder,) = base.iterdir()
    assert document["kept"] == str(folder)
    assert str(folder) in done.stderr.splitlines()[-1]
    assert _processes(base) == []
    assert folder.stat().st_mode & 0o777 == 0o700
    listed = subprocess.run(
        [sys.executable, "-m", "etcdguard", "list", "--config", str(folder / "config.yaml"), "-o", "json"],
        capture_output=True,
        env=_environment(),
        check=True,
    )
    assert [backup["id"] for backup in json.loads(listed.stdout)["backups"]] == [document["backup"]["id"]]
    shutil.rmtree(folder)  # pytest keeps the folders of three runs, and a member's WAL takes 64 MB


# -- interrupted -----------------------------------------------------------------------------------------


def _interrupted(
    etcd: EtcdPrograms, base: Path, phase: str, send: Callable[[int], None], *flags: str
) -> tuple[int, str]:
    """Start a demo and ``send`` to its pid once it tells of the phase; returns its code and last stderr."""
    with subprocess.Popen(
        [*_COMMAND, "--etcd", str(etcd.folder), "--dir", str(base), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=unmeasured(_environment()),
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f"] {phase}:" in line:
                break
        send(process.pid)
        _, err = process.communicate(timeout=_ENDS_WITHIN)
    return process.returncode, err


def _ctrl_c(pid: int) -> None:
    """As a terminal does it: to the whole foreground group."""
    os.killpg(pid, signal.SIGINT)


def _terminate(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("phase", "delay"),
    [*((phase, 0.0) for phase in _PHASES[:-1]), ("start", 0.05), ("write", 0.2), ("restart", 0.02)],
)
def test_ctrl_c_leaves_nothing(phase: str, delay: float, etcd_binaries: EtcdPrograms, base: Path) -> None:
    def send(pid: int) -> None:
        time.sleep(delay)
        _ctrl_c(pid)

    code, err = _interrupted(etcd_binaries, base, phase, send)
    assert code == 130
    assert err.splitlines()[-2:] == [
        "error: interrupted",
        "hint: the demo's members are stopped and nothing of it is left; run it again",
    ]
    _assert_nothing_left(base)


def test_ctrl_c_at_the_very_end_leaves_nothing(etcd_binaries: EtcdPrograms, base: Path) -> None:
    code, _ = _interrupted(etcd_binaries, base, "prove", _ctrl_c)
    assert code in (130, 0)  # 0: it had ended before we got there
    _assert_nothing_left(base)


@pytest.mark.parametrize("phase", ["backup", "restore", "restart"])
def test_sigterm_leaves_nothing(phase: str, etcd_binaries: EtcdPrograms, base: Path) -> None:
    code, _ = _interrupted(etcd_binaries, base, phase, _terminate)
    assert code == 130
    _assert_nothing_left(base)


@pytest.mark.parametrize("phase", ["write", "restart"])
def test_an_impatient_user_leaves_nothing(phase: str, etcd_binaries: EtcdPrograms, base: Path) -> None:
    def send(pid: int) -> None:
        with suppress(ProcessLookupError):
            for _ in range(20):
                _ctrl_c(pid)
                time.sleep(0.001)

    code, _ = _interrupted(etcd_binaries, base, phase, send)
    assert code in (130, -signal.SIGINT)  # the last ones may meet an interpreter that is closing down
    _assert_nothing_left(base)


def test_keep_keeps_after_ctrl_c_too(etcd_binaries: EtcdPrograms, base: Path) -> None:
    code, err = _interrupted(etcd_binaries, base, "restart", _ctrl_c, "--keep")
    assert code == 130
    (folder,) = base.iterdir()
    assert f"kept: {folder}" in err
    assert f"{folder} is still there" in err.splitlines()[-1]
    assert _processes(base) == []
    shutil.rmtree(folder)


# -- failures --------------------------------------------------------------------------------------------


def _wrapped(programs: EtcdPrograms, folder: Path, **scripts: str) -> Path:
    """The programs in a folder of its own, some of them behind a shell script; ``$REAL`` is the program."""
    folder.mkdir()
    for tool in (programs.etcd, programs.restore):
        program = folder / tool.kind
        if tool.kind not in scripts:
            program.symlink_to(tool.path)
            continue
        script = f'REAL="{tool.path}"\ncase "$1" in version|--version) exec "$REAL" "$1";; esac\n'
        program.write_text(f"#!/bin/sh\n{script}{scripts[tool.kind]}\n")
        program.chmod(0o755)
    return folder


def _failed(programs: Path, base: Path, *flags: str) -> tuple[int, str, Any]:
    """Exit code, the two lines of the error, and the report, if there is one."""
    done = _demo("--etcd", programs, "--dir", base, "-o", "json", "-q", *flags)
    return done.returncode, done.stderr, json.loads(done.stdout) if done.stdout else None


def test_a_member_that_does_not_start(etcd_binaries: EtcdPrograms, base: Path, tmp_path: Path) -> None:
    broken = _wrapped(etcd_binaries, tmp_path / "bin", etcd="echo no luck today >&2; exit 7")
    code, err, report = _failed(broken, base)
    assert (code, report) == (5, None)
    assert err.startswith("error: start: etcd member etcd-")
    assert "no luck today" in err
    assert "--keep keeps it" in err
    _assert_nothing_left(base)


def test_a_restore_that_fails(etcd_binaries: EtcdPrograms, base: Path, tmp_path: Path) -> None:
    tool = etcd_binaries.restore.kind
    broken = _wrapped(etcd_binaries, tmp_path / "bin", **{tool: "echo no space left >&2; exit 3"})
    code, err, report = _failed(broken, base)
    assert (code, report) == (1, None)
    assert err.startswith("error: restore: ")
    assert "ended with code 3: no space left" in err
    _assert_nothing_left(base)


@pytest.mark.parametrize("etcd_binaries", ["3.6"], indirect=True)
def test_a_cluster_restored_otherwise_than_said_is_no_proof(
    etcd_binaries: EtcdPrograms, base: Path, tmp_path: Path
) -> None:
    lying = _wrapped(
        etcd_binaries, tmp_path / "bin", etcdutl='exec "$REAL" "$@" --bump-revision=1000 --mark-compacted'
    )
    code, err, report = _failed(lying, base)
    assert code == 1
    assert report["outcome"] == "failed"
    outcomes = {one["name"]: one["outcome"] for one in report["proofs"]}
    assert (outcomes["voters"], outcomes["revision"]) == ("ok", "failed")
    assert err.startswith("error: the restored cluster is not as it was: revision: ")
    _assert_nothing_left(base)


@pytest.mark.parametrize("place", ["missing", "file"])
def test_a_base_that_cannot_be_used(place: str, etcd_binaries: EtcdPrograms, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, err, report = _failed(etcd_binaries.folder, tmp_path / place)
    assert (code, report) == (64, None)
    assert len(err.splitlines()) == 2
    assert "--dir" in err


def test_no_etcd_there(base: Path, tmp_path: Path) -> None:
    code, err, report = _failed(tmp_path / "nothing", base)
    assert (code, report) == (64, None)
    assert "etcd was not found" in err
    assert list(base.iterdir()) == []
