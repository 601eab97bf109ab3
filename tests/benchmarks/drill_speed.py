"""A drill beside the same by hand: download, ``etcdutl snapshot restore``, start; by turns.

``python -m tests.benchmarks.drill_speed`` takes one backup of a filled database into a repository that is a
directory. Then, by turns, the backup becomes a serving etcd of one member:

- bare: copy the object, ``age -d | zstd -d``, ``etcdutl snapshot restore``, start etcd, wait until it is
  healthy. Nobody looks at what it serves, and cleaning up is not counted;
- download: the same with ``etcdguard download`` in place of copying and opening it by hand;
- ``etcdguard verify latest --level drill``, from an empty prompt to the report: its checks of the signature,
  the stored sha256, revision, HashKV, keys by prefix and a canary, its event, and its cleaning up included.

Absolute times say little on a shared machine; the ratios within one turn hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etcdguard.etcd.local import LocalCluster
from tests.benchmarks.measuring import MEGABYTE, Run, Spread, measure
from tests.benchmarks.record import offer, record, table
from tests.e2e.running import Installation
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.load import fill

_BY_HAND = """
set -euo pipefail
umask 077
if [ $# -gt 5 ]; then
  "${@:6}" --output snapshot.db
else
  cp "$1/snapshot.db.zst.age" .
  age --decrypt --identity "$2" snapshot.db.zst.age | zstd --quiet --decompress -o snapshot.db
fi
etcdutl snapshot restore snapshot.db --data-dir data --name n --initial-cluster "n=http://127.0.0.1:$4" \\
  --initial-advertise-peer-urls "http://127.0.0.1:$4" --initial-cluster-token "$5" 2>restore.log
etcd --name n --data-dir data --listen-client-urls "http://127.0.0.1:$3" \\
  --advertise-client-urls "http://127.0.0.1:$3" --listen-peer-urls "http://127.0.0.1:$4" 2>etcd.log &
echo $! >pid
until etcdctl --endpoints "http://127.0.0.1:$3" endpoint health >health.log 2>&1; do sleep 0.05; done
"""


@dataclass(frozen=True)
class _Turn:
    """Seconds each way took."""

    bare: float
    download: float
    drill: Run


class _Bench:
    def __init__(self, folder: Path, programs: EtcdPrograms, megabytes: int) -> None:
        self.folder = folder
        path = f"{programs.folder}{os.pathsep}{os.environ['PATH']}"
        with LocalCluster(
            programs.etcd, folder / "cluster", names=("etcd-1",), quota_bytes=8 * 2**30
        ) as cluster:
            fill(cluster, megabytes * MEGABYTE)
            self.here = Installation.of(folder / "here", cluster, variables={"PATH": path})
            backup = self.here.json("backup", "-q")["backup"]
        shutil.rmtree(folder / "cluster")
        self.db_bytes: int = backup["db_bytes"]
        self.stored = self.here.stored(backup["id"])
        self.environment = self.here.environment()

    def turn(self, number: int) -> _Turn:
        """All ways, in an order that goes round."""
        ways: list[tuple[str, Callable[[], Any]]] = [
            ("bare", self._by_hand),
            ("download", lambda: self._by_hand(*self.here.argv("download", "latest", "-q"))),
            ("drill", self._drill),
        ]
        at = number % len(ways)
        return _Turn(**{name: way() for name, way in (*ways[at:], *ways[:at])})

    def _drill(self) -> Run:
        drills = self.folder / "drills"
        drills.mkdir(exist_ok=True)
        return measure(
            self.here.argv("verify", "latest", "--level", "drill", "--dir", drills, "-q"), self.environment
        )

    def _by_hand(self, *download: str) -> float:
        work = self.folder / "by-hand"
        work.mkdir()
        with socket.socket() as one, socket.socket() as other:
            for each in (one, other):
                each.bind(("127.0.0.1", 0))
            ports = [str(each.getsockname()[1]) for each in (one, other)]
        argv = ["bash", "-c", _BY_HAND, "by-hand", str(self.stored), str(self.here.identity_file), *ports]
        began = time.monotonic()
        try:
            subprocess.run(
                [*argv, f"t{time.time_ns()}", *download], cwd=work, env=self.environment, check=True
            )
            return time.monotonic() - began
        finally:
            pid = work / "pid"
            if pid.exists():
                os.kill(int(pid.read_text()), 9)
            shutil.rmtree(work)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and record where that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="Where all of it goes (default: a temporary folder).")
    offer(parser)
    options = parser.parse_args(arguments)
    programs = default_programs()
    with ExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-bench-", dir=options.dir))
        bench = _Bench(Path(name), programs, options.megabytes)
        turns = []
        for number in range(options.turns):
            turns.append(bench.turn(number))
            print(turns[-1], flush=True)
    ways = {
        "bare": Spread.of([turn.bare for turn in turns]),
        "download": Spread.of([turn.download for turn in turns]),
        "drill": Spread.of([turn.drill.wall for turn in turns]),
        "drill_beside_bare": Spread.of([turn.drill.wall / turn.bare for turn in turns]),
        "drill_beside_download": Spread.of([turn.drill.wall / turn.download for turn in turns]),
    }
    peak = max(turn.drill.peak for turn in turns)
    text = table(
        ("database", "bare, s", "download, s", "drill, s", "drill / bare", "drill / download", "peak"),
        [
            (
                f"{bench.db_bytes / MEGABYTE:.0f} MB, etcd {programs.version}",
                *map(str, ways.values()),
                f"{peak / MEGABYTE:.0f} MB",
            )
        ],
    )
    figures = {
        "db_bytes": bench.db_bytes,
        "etcd": programs.version,
        "turns": len(turns),
        "drill_cpu": Spread.of([turn.drill.cpu for turn in turns]).__dict__,
        "peak_bytes": peak,
        **{name: spread.__dict__ for name, spread in ways.items()},
    }
    record("drill", figures, text, keep=options.record)


if __name__ == "__main__":
    main()
