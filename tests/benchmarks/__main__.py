"""``python -m tests.benchmarks [NAME...]``: every benchmark, or those, recorded in docs/benchmarks.md.

Each is recorded as it ends: after an interruption, name those that are missing. ``--small`` runs them with
little data and records nothing: whether they work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class _Benchmark:
    """Options of a module of this package: for the record, and to see whether it works."""

    full: tuple[str, ...]
    small: tuple[str, ...]
    module: str = ""
    """Its name where that is not the benchmark's."""


_SIZES = ("--sizes", "100,1000,4000")
_SMALL = ("--sizes", "20,50", "--turns", "1")
_ALL = {
    "start_up": _Benchmark((), ("--turns", "2")),
    "daemon_idle": _Benchmark((), ("--seconds", "20")),
    "catalog_scale": _Benchmark((), ("--counts", "10,100", "--turns", "1")),
    "backup_speed": _Benchmark(_SIZES, _SMALL),
    "slow_store": _Benchmark(
        ("--store-rate", "60", "--sizes", "1000"), ("--store-rate", "60", *_SMALL), "backup_speed"
    ),
    "put_latency": _Benchmark(("--turns", "9"), ("--megabytes", "50", "--turns", "1")),
    "verify_speed": _Benchmark(_SIZES, _SMALL),
    "drill_speed": _Benchmark(_SIZES, _SMALL),
    "restore_speed": _Benchmark(_SIZES, _SMALL),
}


def main() -> int:
    """Run them; the exit code says how many ended badly."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(_ALL)}")
    parser.add_argument("--small", action="store_true", help="little data, nothing recorded")
    options = parser.parse_args()
    names = options.names or list(_ALL)
    unknown = set(names) - set(_ALL)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed = []
    for name in names:
        chosen = _ALL[name].small if options.small else (*_ALL[name].full, "--record")
        print(f"-- {name} {' '.join(chosen)}", flush=True)
        began = time.monotonic()
        argv = [sys.executable, "-m", f"tests.benchmarks.{_ALL[name].module or name}", *chosen]
        if subprocess.run(argv, check=False).returncode != 0:
            failed.append(name)
        print(f"-- {name} took {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
