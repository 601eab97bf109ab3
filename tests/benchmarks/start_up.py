"""What a command costs before it does anything: ``--version``, ``--help``, ``list`` of an empty repository.

``python -m tests.benchmarks.start_up``. Beside each: an interpreter that does nothing, and one that imports
boto3, which is what the cheapest script in Python would pay.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.measuring import MEGABYTE, Run, Spread, measure
from tests.benchmarks.record import offer, record, table


def main() -> None:
    """Measure by turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=20)
    offer(parser)
    options = parser.parse_args()
    ours = [sys.executable, "-m", "etcdguard"]
    with tempfile.TemporaryDirectory(prefix="etcdguard-bench-") as name:
        config = Path(name) / "config.yaml"
        init = ["init", "--config", str(config), "--cluster-name", "bench", "--endpoints", "127.0.0.1:2379"]
        measure([*ours, *init, "--repository", f"{name}/repository"], os.environ)
        ways = {
            "python, nothing": [sys.executable, "-c", ""],
            "python, import boto3": [sys.executable, "-c", "import boto3"],
            "etcdguard --version": [*ours, "--version"],
            "etcdguard --help": [*ours, "--help"],
            "etcdguard list": [*ours, "list", "--config", str(config)],
        }
        runs: dict[str, list[Run]] = {way: [] for way in ways}
        for number in range(options.turns + 1):
            for way, argv in ways.items():
                run = measure(argv, os.environ)
                if number:
                    runs[way].append(run)
    rows, figures = [], {}
    for way, each in runs.items():
        wall, cpu = Spread.of([run.wall for run in each]), Spread.of([run.cpu for run in each])
        peak = max(run.peak for run in each)
        figures[way] = {"wall": wall.__dict__, "cpu": cpu.__dict__, "peak_bytes": peak}
        rows.append([f"`{way}`", f"{wall} s", f"{cpu} s", f"{peak / MEGABYTE:.0f} MB"])
    record("start-up", figures, table(["command", "wall", "CPU", "memory"], rows), keep=options.record)


if __name__ == "__main__":
    main()
