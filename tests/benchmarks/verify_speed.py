"""``verify --level data`` beside the same by hand, by turns.

``python -m tests.benchmarks.verify_speed`` takes one backup of a filled database into a repository that is a
directory. Then, by turns, it is read back:

- by hand: ``age -d | zstd -d`` into a file, and ``etcdutl snapshot status`` of that;
- ``etcdguard verify latest --level data``, from an empty prompt to the report: the signature, the stored
  sha256, the snapshot's own trailer, its revision and buckets, and the event it records included.

Absolute times say little on a shared machine; the ratios within one turn hold.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.compared import OURS, Compared, report, sizes
from tests.benchmarks.drill_speed import BackedUp
from tests.benchmarks.measuring import Run, measure
from tests.benchmarks.record import offer
from tests.support.etcd_versions import default_programs

_BY_HAND = """
set -euo pipefail
umask 077
age --decrypt --identity "$2" "$1/snapshot.db.zst.age" | zstd --quiet --decompress --force -o snapshot.db
etcdutl snapshot status snapshot.db
rm snapshot.db
"""


def compare(folder: Path, megabytes: int, turns: int) -> Compared:
    """Every way at one size."""
    backed_up = BackedUp(folder, default_programs(), megabytes)
    here = backed_up.here
    ways = {
        "by hand": ["bash", "-c", _BY_HAND, "by-hand", str(backed_up.stored), str(here.identity_file)],
        OURS: here.argv("verify", "latest", "--level", "data", "-q"),
    }
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for number in range(turns + 1):
        for name, argv in ways.items():
            run = measure(argv, backed_up.environment, folder=folder)
            if number:  # the first turn warms the page cache
                runs[name].append(run)
    return Compared(backed_up.db_bytes, runs)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure at every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=sizes, default="1000", help="megabytes, separated by commas")
    parser.add_argument("--turns", type=int, default=5, help="counted turns per size")
    offer(parser)
    options = parser.parse_args(arguments)
    found = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="etcdguard-bench-") as name:
            found.append(compare(Path(name), size, options.turns))
    report("verify", found, keep=options.record, facts={"etcd": default_programs().version})


if __name__ == "__main__":
    main()
