"""``python -m tests.campaign.restores``: SIGKILL a restore of three members at random moments (100 of them).

One machine, real ``etcdutl``; how a restore over hosts fares is in ``tests.campaign``. After each kill the
old directories are there, byte for byte; then the plan is run again or rolled back, and a cluster starts.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etcdguard.etcd.local import LocalCluster
from tests.campaign.table import Row, print_table
from tests.e2e.running import Installation, tree
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.etcdctl import Etcdctl
from tests.support.load import write_history
from tests.support.restores import wait_applied

__all__ = ["Machine"]

_NO_WAY_BACK = ("none", "None")
"""Phases as the journal tells them in which there is nothing to roll back yet."""
_FINISHED = "finished"
_ENDED = "had ended"
"""Of a restore that was quicker than its kill, which does not count."""


class Machine:
    """Three members and their backup; the cluster is stopped."""

    def __init__(self, folder: Path, cluster: LocalCluster, programs: EtcdPrograms) -> None:
        self.folder = folder
        self.cluster = cluster
        self.etcdctl = Etcdctl(programs.etcdctl, cluster)
        variables = {"PATH": programs.search_path}
        self.here = Installation.of(folder / "here", cluster, variables=variables)
        self.here.settings["encryption"]["identity_file"] = str(self.here.identity_file)
        self.here.save()
        self.history = write_history(cluster)
        wait_applied(self.etcdctl, self.history.revision)
        self.here.backup()
        cluster.kill()
        self.seconds = self._undisturbed()

    def kill(self, rng: random.Random) -> tuple[str, str]:
        """Kill a restore anywhere in it; how far it had come, and what was done then."""
        plan = self._plan()
        old = self._old()
        process = self.here.start(*self._run(plan), "-q")
        self._wait_begun(plan, process)
        began = time.monotonic()
        try:
            process.communicate(timeout=rng.uniform(0, self.seconds))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            self.seconds *= 1.02  # how long one takes depends on what else the machine does
        else:
            self.seconds = time.monotonic() - began
        killed = process.returncode < 0
        assert killed or process.returncode == 0, process.returncode
        phase = self._phase(plan) if killed else _ENDED
        assert self._kept(old), "an old directory is not what it was"
        back = killed and phase not in _NO_WAY_BACK and rng.random() < 0.4
        if back:
            self.here.run("restore", "rollback", plan.stem, "--yes", "-q")
            assert self._old() == old, "after the rollback it is not as it was"
            assert self._leftovers() == []
            plan = self._plan()
        again = killed and (back or phase != _FINISHED)
        if again:
            self.here.run(*self._run(plan), "-q")
        assert self._kept(old), "an old directory is not what it was"
        self._prove()
        return phase, "rolled back, a new restore" if back else "run again" if again else "nothing"

    def _undisturbed(self) -> float:
        """Seconds from the first word in its journal to the end."""
        plan = self._plan()
        process = self.here.start(*self._run(plan), "-q")
        self._wait_begun(plan, process)
        began = time.monotonic()
        _, error = process.communicate()
        took = time.monotonic() - began
        assert process.returncode == 0, error
        self._prove()
        return took

    def _wait_begun(self, plan: Path, process: subprocess.Popen[str]) -> None:
        journals = Path(self.here.settings["restore"]["state_dir"]) / plan.stem
        while not journals.exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)

    def _plan(self) -> Path:
        """A new one, in a file named after it."""
        places = [f"--data-dir={name}={self.cluster.data_dir(name)}" for name in self.cluster.names]
        scratch = self.folder / "plan.json"
        self.here.run("restore", "plan", "-o", scratch, "--no-bump", *places)
        plan_id = json.loads(scratch.read_text())["plan"]["id"]
        return scratch.rename(self.folder / f"{plan_id}.json")

    def _run(self, plan: Path) -> list[str | Path]:
        return ["restore", "run", "--plan", plan, "--all", "--yes"]

    def _phase(self, plan: Path) -> str:
        known = self.here.json("restore", "status")["plans"]
        return next((str(one["orchestrated"]) for one in known if one["plan"] == plan.stem), "none")

    def _old(self) -> dict[str, Any]:
        return {name: self._look(self.cluster.data_dir(name)) for name in self.cluster.names}

    def _kept(self, old: dict[str, Any]) -> bool:
        """Whether each old directory is still there, under whatever name."""
        found = [self._look(path) for path in self.cluster.base.glob("*/data*") if path.is_dir()]
        return all(one in found for one in old.values())

    def _look(self, directory: Path) -> tuple[int, Any]:
        return directory.stat().st_ino, tree(directory)

    def _leftovers(self) -> list[Path]:
        return [path for path in self.cluster.base.glob("*/data*") if path.name != "data"]

    def _prove(self) -> None:
        """The restored members are a cluster with what was backed up; it stops, and what was kept goes."""
        assert all(".before-" in path.name for path in self._leftovers()), self._leftovers()
        self.cluster.start_all()
        self.cluster.wait_healthy()
        assert len(set(self.etcdctl.common_hashes().values())) == 1
        for key, value in list(self.history.live.items())[:5]:
            assert self.etcdctl.get(key) == value
        self.cluster.kill()
        for path in self._leftovers():
            shutil.rmtree(path)


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="SIGKILL restores at random moments.")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=6)
    chosen = parser.parse_args(arguments)
    programs = default_programs()
    rng = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory(prefix="etcdguard-campaign-") as name:
        folder = Path(name)
        with LocalCluster(programs.etcd, folder / "cluster", unsafe_no_fsync=True) as cluster:
            machine = Machine(folder, cluster, programs)
            print(f"etcd {programs.version}, seed {chosen.seed}, a restore takes {machine.seconds:.1f} s")
            met: Counter[tuple[str, str]] = Counter()
            failed: list[Row] = []
            while sum(times for (phase, _), times in met.items() if phase != _ENDED) < chosen.kills:
                row = Row.of(("a kill",), lambda: " / ".join(machine.kill(rng)))
                if row.outcome is None:
                    failed.append(row)
                    break  # what the next would find is not what a kill of its own left
                phase, then = row.outcome.split(" / ")
                met[phase, then] += 1
    rows = [Row(cells, f"restored, {times} times") for cells, times in sorted(met.items())]
    return print_table(("killed in phase", "then"), [*rows, *failed])


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
