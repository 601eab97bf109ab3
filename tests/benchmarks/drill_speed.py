"""A drill beside the same by hand: download, ``etcdutl snapshot restore``, start; by turns.

``python -m tests.benchmarks.drill_speed`` takes one backup of a filled database into a repository that is a
directory. Then, by turns, the backup becomes a serving etcd of one member:

- bare: copy the object, ``age -d | zstd -d``, ``etcdutl snapshot restore``, start etcd, wait until it is
  healthy. Nobody looks at what it serves, and cleaning up is not counted;
- download: the same with ``etcdguard download`` in place of copying and opening it by hand;
- ``etcdguard verify latest --level drill``, from an empty prompt to the report: its checks of the signature,
  the stored sha256, revision, HashKV, keys by prefix and a canary, its event, and its cleaning up included.

By hand, the CPU seconds are without those of the etcd that was started, which goes on. Absolute times say
little on a shared machine; the ratios within one turn hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from etcdguard.etcd.local import LocalCluster, ReservedPort
from tests.benchmarks.compared import OURS, Compared, report, sizes
from tests.benchmarks.measuring import MEGABYTE, Run, measure
from tests.benchmarks.record import offer
from tests.e2e.running import Installation
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.load import fill

__all__ = ["BackedUp"]

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
etcd --name n --data-dir data --quota-backend-bytes=-1 --listen-client-urls "http://127.0.0.1:$3" \\
  --advertise-client-urls "http://127.0.0.1:$3" --listen-peer-urls "http://127.0.0.1:$4" 2>etcd.log &
echo $! >pid
until etcdctl --endpoints "http://127.0.0.1:$3" endpoint health >health.log 2>&1; do sleep 0.05; done
"""


class BackedUp:
    """An installation whose repository, a directory, holds one backup."""

    def __init__(self, folder: Path, programs: EtcdPrograms, megabytes: int) -> None:
        path = f"{programs.folder}{os.pathsep}{os.environ['PATH']}"
        with LocalCluster(
            programs.etcd, folder / "cluster", names=("etcd-1",), quota_bytes=8 * 2**30, unsafe_no_fsync=True
        ) as cluster:
            fill(cluster, megabytes * MEGABYTE)
            self.here = Installation.of(folder / "here", cluster, variables={"PATH": path})
            backup = self.here.json("backup", "-q")["backup"]
        shutil.rmtree(folder / "cluster")
        self.db_bytes: int = backup["db_bytes"]
        self.stored = self.here.stored(backup["id"])
        self.environment = self.here.environment()


def compare(folder: Path, megabytes: int, turns: int) -> Compared:
    """Every way at one size, in an order that goes round."""
    backed_up = BackedUp(folder, default_programs(), megabytes)
    here = backed_up.here
    drills = folder / "drills"
    drills.mkdir()
    drill = here.argv("verify", "latest", "--level", "drill", "--dir", drills, "-q")
    download = here.argv("download", "latest", "-q")
    ways: dict[str, Callable[[], Run]] = {
        "bare": lambda: _by_hand(folder, backed_up),
        "download": lambda: _by_hand(folder, backed_up, *download),
        OURS: lambda: measure(drill, backed_up.environment),
    }
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(turns + 1):
        at = number % len(ways)
        for name in (*list(ways)[at:], *list(ways)[:at]):
            run = ways[name]()
            if number:  # the first turn warms the page cache
                runs[name].append(run)
    return Compared(backed_up.db_bytes, runs)


def _by_hand(folder: Path, backed_up: BackedUp, *download: str) -> Run:
    work = folder / "by-hand"
    work.mkdir()
    identity = str(backed_up.here.identity_file)
    with ReservedPort() as client, ReservedPort() as peer:
        ports = [str(client.number), str(peer.number)]
        argv = ["bash", "-c", _BY_HAND, "by-hand", str(backed_up.stored), identity, *ports]
        try:
            return measure([*argv, f"t{time.time_ns()}", *download], backed_up.environment, folder=work)
        finally:
            pid = work / "pid"
            if pid.exists():
                os.kill(int(pid.read_text()), 9)
            shutil.rmtree(work)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and record where that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=sizes, default="1000", help="megabytes, separated by commas")
    parser.add_argument("--turns", type=int, default=5, help="counted turns per size")
    parser.add_argument("--dir", type=Path, help="Where all of it goes (default: a temporary folder).")
    offer(parser)
    options = parser.parse_args(arguments)
    found = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="etcdguard-bench-", dir=options.dir) as name:
            found.append(compare(Path(name), size, options.turns))
    report("drill", found, keep=options.record, facts={"etcd": default_programs().version})


if __name__ == "__main__":
    main()
