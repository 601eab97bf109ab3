"""The command line over a real cluster: back it up, lose it, restore it; and every refusal on the way."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from etcdguard import __version__
from etcdguard.etcd.local import LocalCluster
from etcdguard.restore.steps import (
    StepAnswer,
    StepName,
    StepProgress,
    StepRequest,
    read_answer,
    read_progress,
    request_bytes,
)
from tests.e2e.one_machine import Site, backed_up
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.waiting import eventually


@pytest.fixture
def site(cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, tmp_path: Path) -> Site:
    return backed_up(tmp_path, cluster_factory(), etcd_binaries)


@pytest.fixture
def stopped(site: Site) -> Site:
    site.cluster.stop()
    return site


def test_a_lost_cluster_comes_back_from_the_command_line(stopped: Site) -> None:
    shutil.rmtree(stopped.cluster.data_dir(stopped.cluster.names[0]))
    flags = [*stopped.data_dirs, "--all"]
    shown = json.loads(stopped.good("restore", "--dry-run", "-o", "json", *flags))

    done = json.loads(stopped.good("restore", "--yes", "-o", "json", *flags))

    stopped.cluster.start_all()
    stopped.cluster.wait_healthy()
    restored = done["restore"]
    etcdctl = Etcdctl(stopped.programs.etcdctl, stopped.cluster)
    # The history stands below /registry/, so this is taken for a Kubernetes cluster.
    assert 0 <= restored["revision"] - stopped.history.revision - 1_000_000_000 <= 4  # the lock's writes
    assert etcdctl.revision() >= restored["revision"]
    # The lock's key was in the backup, and its lease ends.
    lock = "/etcdguard/prod/lock/maintenance"
    assert lock.encode() in stopped.snapshot().read_bytes()
    eventually(lambda: etcdctl.get(lock) is None, "nobody holds the lock")
    assert len(set(etcdctl.common_hashes().values())) == 1
    for key, value in list(stopped.history.live.items())[:5]:
        assert etcdctl.get(key) == value
    assert (restored["backup_id"], restored["revision"]) == (
        shown["plan"]["backup_id"],
        shown["plan"]["revision"],
    )
    assert [len(member["kept"]) for member in restored["members"]] == [0, 1, 1]
    assert any("kube-apiserver" in step for step in done["next_steps"])
    assert done["plan_file"] is None
    event = json.loads(stopped.only("repository/prod/events/*-restore-*.json").read_text())
    assert (event["kind"], event["plan_id"]) == ("restore", restored["plan_id"])
    assert stopped.only("repository/prod/events/*-restore-*.json.sig").stat().st_size == 64


def test_every_member_on_its_own_with_one_plan(stopped: Site) -> None:
    """Each as if on a host of its own: with a folder of its own for its journals."""
    stopped.good("restore", "plan", "-o", "plan.json", "--no-bump", *stopped.data_dirs)
    text = (stopped.folder / "config.yaml").read_text()
    for name in stopped.cluster.names:
        changed = text.replace(f"{stopped.folder}/restore", f"{stopped.folder}/restore-{name}")
        assert changed != text
        (stopped.folder / f"{name}.yaml").write_text(changed)
        run = ["restore", "run", "--plan", "plan.json", "--member", name, "--config", f"{name}.yaml", "--yes"]

        stopped.good(*run)

        again = stopped(*run)
        assert (again.returncode, again.stdout) == (15, "")
        assert "has been carried out here" in again.stderr

    stopped.cluster.start_all()
    stopped.cluster.wait_healthy()
    etcdctl = Etcdctl(stopped.programs.etcdctl, stopped.cluster)
    assert etcdctl.revision() > stopped.history.revision
    assert len(set(etcdctl.common_hashes().values())) == 1


def test_the_first_member_leaves_the_plan_for_the_others(stopped: Site) -> None:
    first, *others = stopped.cluster.names

    done = stopped.good("restore", *stopped.data_dirs, "--member", first, "--yes")

    plan = stopped.only("etcdguard-restore-*.json")
    assert plan.stat().st_mode & 0o777 == 0o600
    for name in others:
        assert f"etcdguard restore run --plan {plan.name} --member {name}`" in done
    refused = stopped("restore", "run", "--plan", plan.name, "--member", others[0], "--yes")
    assert refused.returncode == 64
    assert f"{first} lives on this machine too" in refused.stderr


def test_members_of_one_machine_go_together(stopped: Site) -> None:
    first, second, third = stopped.cluster.names
    stopped.good("restore", "plan", "-o", "plan.json", *stopped.data_dirs)
    run = ["restore", "run", "--plan", "plan.json", "--yes", "--member"]
    stopped.good(*run, first)
    before = stopped.data_files

    done = stopped(*run, second, "--member", third)

    assert done.returncode == 15
    assert f"was begun here with {first}, not {second}, {third}" in done.stderr
    assert stopped.data_files == before


def test_a_host_tells_its_progress_before_it_answers(stopped: Site) -> None:
    stopped.good("restore", "plan", "-o", "plan.json", *stopped.data_dirs)
    before = stopped.data_files
    plan = json.loads((stopped.folder / "plan.json").read_text())
    node = subprocess.Popen(
        [sys.executable, "-m", "etcdguard", "--config", str(stopped.folder / "config.yaml"), "node"],
        env={"PATH": stopped.programs.search_path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert node.stdin is not None
    assert node.stdout is not None

    def ask(step: StepName) -> tuple[list[StepProgress], StepAnswer]:
        names = tuple(stopped.cluster.names)
        request = StepRequest(version=__version__, step=step, plan=plan, members=names, progress=True)
        node.stdin.write(request_bytes(request))  # type: ignore[union-attr]
        node.stdin.flush()  # type: ignore[union-attr]
        told = []
        while (at := read_progress(line := node.stdout.readline())) is not None:  # type: ignore[union-attr]
            told.append(at)
        return told, read_answer(line)

    with node:
        told, answer = ask("stage")
        assert answer.ok
        assert [at.progress for at in told if at.bytes == 0] == ["fetch", "stage"]
        # Nothing says that these members share a host, so each has a snapshot of its own.
        assert told[0].total_bytes == 3 * (plan["plan"]["db_bytes"] + 32)
        told, answer = ask("discard")
        assert (told, answer.ok) == ([], True)
    assert stopped.data_files == before


def test_without_services_going_back_is_one_command_too(stopped: Site) -> None:
    before = stopped.data_files
    done = json.loads(stopped.good("restore", "--yes", "--all", "-o", "json", *stopped.data_dirs))
    assert any("kept" in member for member in done["restore"]["members"])
    plan = done["restore"]["plan_id"]
    assert json.loads(stopped.good("restore", "status", plan, "-o", "json"))["phase"] == "finished"

    stopped.good("restore", "rollback", plan, "--yes")

    assert stopped.data_files == before
    stopped.cluster.start_all()
    stopped.cluster.wait_healthy()


def test_a_plan_is_written_once_and_privately_and_shows_what_it_does(stopped: Site) -> None:
    done = stopped("restore", "plan", "-o", "plan.json", *stopped.data_dirs)

    assert done.returncode == 0, done.stderr
    plan = json.loads((stopped.folder / "plan.json").read_text())["plan"]
    assert (stopped.folder / "plan.json").stat().st_mode & 0o777 == 0o600
    for member in plan["members"]:
        assert " ".join(member["argv"]) in done.stderr
    again = stopped("restore", "plan", "-o", "plan.json", *stopped.data_dirs)
    assert (again.returncode, again.stderr.splitlines()[0]) == (15, "error: plan.json exists")


def test_on_a_terminal_the_cluster_must_be_named(stopped: Site) -> None:
    before = stopped.data_files
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, b"production\n")
        refused = stopped("restore", "--all", *stopped.data_dirs, stdin=terminal)
        assert stopped.data_files == before
        os.write(keyboard, b"prod\n")
        done = stopped("restore", "--all", *stopped.data_dirs, stdin=terminal)
    finally:
        os.close(keyboard)
        os.close(terminal)

    assert refused.returncode == 15
    assert "not the cluster's name" in refused.stderr
    assert "This replaces etcd-1, etcd-2, etcd-3 on this machine." in done.stderr
    assert done.returncode == 0, done.stderr


def test_dry_run_changes_nothing_and_needs_nothing_stopped(site: Site) -> None:
    before = {path for path in site.folder.rglob("*") if not path.is_relative_to(site.cluster.base)}

    out = site.good("restore", "--dry-run", *site.data_dirs)

    assert f"{site.programs.restore.path} snapshot restore" in out
    assert "was a learner" not in out
    assert {path for path in site.folder.rglob("*") if not path.is_relative_to(site.cluster.base)} == before


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ruin(shared_cluster: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One stopped site for all refusals: they change nothing, and what a test arranges is taken back."""
    folder = tmp_path_factory.mktemp("ruin")
    with LocalCluster(shared_cluster.etcd, folder / "clusters", unsafe_no_fsync=True) as cluster:
        site = backed_up(folder, cluster, default_programs())
        cluster.stop()
        yield site
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def refusing(ruin: Site, tmp_path: Path) -> Iterator[Site]:
    """The ruin, whose every file outside the members' directories comes back after the test."""
    saved = tmp_path / "saved"
    shutil.copytree(ruin.folder, saved, ignore=lambda *_: {"clusters"})
    yield ruin
    for path in ruin.folder.iterdir():
        if path.name != "clusters":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(saved, ruin.folder, dirs_exist_ok=True)


Arrange = Callable[[Site], list[str | Path]]


def _run(site: Site) -> list[str | Path]:
    return ["restore", "--yes", "--all", *site.data_dirs]


def _wrong_identity(site: Site) -> list[str | Path]:
    site.good("--config", site.folder / "other" / "config.yaml", "init")
    return [*_run(site), "--identity", site.only("other/*identity*")]


def _no_identity(site: Site) -> list[str | Path]:
    site.only("*identity*").unlink()
    return _run(site)


def _unsigned(site: Site) -> list[str | Path]:
    site.only("repository/prod/backups/*/manifest.json.sig").unlink()
    return _run(site)


def _badly_signed(site: Site) -> list[str | Path]:
    signature = site.only("repository/prod/backups/*/manifest.json.sig")
    signature.chmod(0o600)
    signature.write_bytes(bytes(64))
    return _run(site)


def _damaged(position: int) -> Arrange:
    def arrange(site: Site) -> list[str | Path]:
        stored = site.only("repository/prod/backups/*/snapshot.*")
        data = bytearray(stored.read_bytes())
        data[position] ^= 1
        stored.chmod(0o600)
        stored.write_bytes(data)
        return _run(site)

    return arrange


def _edited_plan(site: Site) -> list[str | Path]:
    site.good("restore", "plan", "-o", "plan.json", *site.data_dirs)
    plan = site.folder / "plan.json"
    plan.write_text(plan.read_text().replace("/data", "/date"))
    return ["restore", "run", "--plan", plan, "--all", "--yes"]


def _foreign(site: Site) -> list[str | Path]:
    (site.folder / "home").mkdir()
    (site.folder / "home" / "letter").write_text("x")
    return [*_run(site), f"--data-dir={site.cluster.names[0]}={site.folder / 'home'}"]


def _with(*args: str) -> Arrange:
    return lambda site: [*_run(site), *args]


REFUSALS: dict[str, tuple[Arrange, int, str, str]] = {
    "wrong identity": (_wrong_identity, 12, "opens this encrypted file", ""),
    "no identity": (_no_identity, 12, "identity", ""),
    "unsigned": (_unsigned, 15, "is not signed", "--allow-unsigned"),
    "badly signed": (_badly_signed, 13, "not signed by anyone trusted", "trusted_signers"),
    "damaged middle": (_damaged(-500), 13, "", ""),
    "damaged end": (_damaged(-1), 13, "", ""),
    "edited plan": (_edited_plan, 15, "was changed", "make a new one"),
    "no such plan": (
        lambda _: ["restore", "run", "--plan", "none.json", "--all", "--yes"],
        64,
        "none.json cannot be read",
        "--plan",
    ),
    "foreign directory": (_foreign, 15, "not etcd's", "move the directory away"),
    "nobody to ask": (lambda site: ["restore", "--all", *site.data_dirs], 64, "confirm", "--yes"),
    "no member": (lambda site: ["restore", "--yes", *site.data_dirs], 64, "which members", "--member NAME"),
    "unknown member": (lambda _: ["restore", "--yes", "--member", "m9"], 64, "'m9'", "etcdguard show"),
    "shared directory": (lambda _: ["restore", "--yes", "--all"], 64, "overlap", "--data-dir NAME=DIR"),
    "bad NAME=DIR": (_with("--data-dir", "x"), 64, "'x' is not NAME=DIR", "m1=/var/lib/etcd"),
    "bump alone": (_with("--bump-revision", "5"), 64, "go together", "both or neither"),
    "no such tool": (_with("--etcdutl", "/no/etcdutl"), 64, "/no/etcdutl is not an executable", "path"),
    "no such backup": (
        lambda site: ["restore", "20200101T000000Z-r00000000000000000001-00000000", *_run(site)[1:]],
        10,
        "no backup",
        "list",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_two_lines_and_change_nothing(refusing: Site, case: str) -> None:
    arrange, code, message, hint = REFUSALS[case]
    args = arrange(refusing)
    before = refusing.data_files

    done = refusing(*args)

    errors = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert done.returncode == code, done.stderr
    assert len(errors) == 2, done.stderr
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert errors[1].startswith("hint: ")
    assert hint in errors[1]
    assert done.stdout == ""
    assert refusing.data_files == before


def test_a_running_cluster_is_refused(site: Site) -> None:
    before = {path.name for path in site.cluster.base.iterdir()}

    done = site(*_run(site))

    assert done.returncode == 15
    assert "the cluster is alive" in done.stderr
    assert "uses" in done.stderr
    assert "stop etcd on this machine" in done.stderr
    assert {path.name for path in site.cluster.base.iterdir()} == before


def test_a_tool_of_another_version_is_refused(refusing: Site, tmp_path: Path) -> None:
    etcdutl = tmp_path / "bin" / "etcdutl"
    etcdutl.parent.mkdir()
    etcdutl.write_text("#!/bin/sh\necho 'etcdutl version: 3.99.0'\n")
    etcdutl.chmod(0o755)

    done = refusing(*_run(refusing), "--etcdutl", etcdutl)

    assert done.returncode == 15
    assert f"etcdutl 3.99.0, but the backup is of etcd {refusing.programs.version}" in done.stderr


def test_an_unsigned_backup_can_be_restored_by_name_of_the_risk(stopped: Site) -> None:
    args = _unsigned(stopped)

    document: dict[str, Any] = json.loads(stopped.good(*args, "--allow-unsigned", "-o", "json"))

    assert len(document["restore"]["members"]) == 3
