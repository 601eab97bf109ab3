"""Real etcd and a real watcher: after a restore, what a client has seen is never taken for what there is."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import KUBERNETES_BUMP
from tests.integration.restore.conftest import Scene
from tests.support.waiting import PLENTY

_PREFIX = "/registry/"
_LATE_WRITES = 10
_COMPACTED = "required revision has been compacted"
_SILENCE_SECONDS = 3.0


@pytest.mark.parametrize("etcd_binaries", ["3.5", "3.6"], indirect=True)
def test_watches_that_resume_after_a_restore_are_told_to_start_over(scene: Scene, tmp_path: Path) -> None:
    first_seen = scene.history.revision
    with _watching(scene, tmp_path / "live", first_seen + 1) as live:
        last_seen = _write_until_the_end(scene, live)
        plan = _restore(scene)

        assert scene.etcdctl.revision() == plan.revision == first_seen + KUBERNETES_BUMP > last_seen
        # It has lived through the disaster, as an informer does, and resumed after the last it was given.
        assert _COMPACTED in live.end()

    for revision in (first_seen + 1, last_seen + 1):
        with _watching(scene, tmp_path / str(revision), revision) as late:
            assert _COMPACTED in late.end()
    # A client that starts over, as it is told to, misses nothing from there.
    with _watching(scene, tmp_path / "anew", scene.etcdctl.revision() + 1) as anew:
        scene.etcdctl.run("put", f"{_PREFIX}new", "after the restore")
        anew.wait_for(lambda: anew.revisions() == [plan.revision + 1])


def test_without_the_bump_a_watch_resumes_in_silence_and_misses_a_write(scene: Scene, tmp_path: Path) -> None:
    """The hazard itself: what the default is there to prevent."""
    with _watching(scene, tmp_path / "live", scene.history.revision + 1) as live:
        last_seen = _write_until_the_end(scene, live)
        plan = _restore(scene, no_bump=True)
        assert plan.revision < last_seen

        with _watching(scene, tmp_path / "resumed", last_seen + 1) as resumed:
            scene.etcdctl.run("put", f"{_PREFIX}missed", "at a revision the clients believe to know")
            time.sleep(_SILENCE_SECONDS)
            assert resumed.revisions() == []
            assert max(live.revisions()) == last_seen
            assert live.running
            assert resumed.running


# -- steps -----------------------------------------------------------------------------------------------


@dataclass
class _Watch:
    """A running ``etcdctl watch``, which reconnects and resumes by itself like every client of etcd's own."""

    process: subprocess.Popen[bytes]
    told: Path
    complaints: Path

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def revisions(self) -> list[int]:
        """The revisions of the events so far."""
        whole = self.told.read_text().rpartition("\n")[0].splitlines()
        answers: list[Any] = [json.loads(line) for line in whole]
        return [event["kv"]["mod_revision"] for answer in answers for event in answer["Events"]]

    def wait_for(self, seen: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PLENTY
        while not seen():
            assert time.monotonic() < deadline, f"only {self.revisions()}; {self.complaints.read_text()}"
            time.sleep(0.05)

    def end(self) -> str:
        """What it complained about when it gave up, which must not take long."""
        assert self.process.wait(PLENTY) != 0
        return self.complaints.read_text()


@contextmanager
def _watching(scene: Scene, folder: Path, revision: int) -> Iterator[_Watch]:
    """Watch all keys from that revision on."""
    folder.mkdir()
    told, complaints = folder / "out", folder / "err"
    argv = [str(scene.programs.etcdctl.path), f"--endpoints={','.join(scene.cluster.client_urls)}"]
    argv += ["watch", "--prefix", _PREFIX, f"--rev={revision}", "-w", "json"]
    with told.open("wb") as out, complaints.open("wb") as err:
        process = subprocess.Popen(argv, env={}, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
    try:
        yield _Watch(process, told, complaints)
    finally:
        process.kill()
        process.wait()


def _write_until_the_end(scene: Scene, live: _Watch) -> int:
    """Writes go on after the backup, the watcher sees them, and the cluster is lost under both.

    Returns the last revision that the cluster served.
    """
    for number in range(_LATE_WRITES):
        scene.etcdctl.run("put", f"{_PREFIX}late/{number}", "written after the backup")
    last = scene.etcdctl.revision()
    assert last == scene.history.revision + _LATE_WRITES
    live.wait_for(lambda: last in live.revisions())
    scene.cluster.kill()
    return last


def _restore(scene: Scene, *, no_bump: bool = False) -> RestorePlan:
    """As a backup of a Kubernetes cluster is restored by default, or with ``--no-bump``."""
    cluster = scene.manifest.cluster.model_copy(update={"kubernetes": True})
    manifest = scene.manifest.model_copy(update={"cluster": cluster})
    plan = scene.plan(manifest=manifest, no_bump=no_bump)
    scene.run(plan)
    scene.cluster.start_all()
    scene.cluster.wait_healthy()
    return plan
