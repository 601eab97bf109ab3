"""``python -m tests.benchmarks``: every benchmark one after the other, recorded in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import subprocess
import sys

_ALL = {
    "start_up": (),
    "backup_speed": ("--sizes", "100,1000,4000"),
    "put_latency": (),
    "restore_speed": (),
    "drill_speed": (),
}


def main() -> int:
    """Run them; the exit code says whether all ended well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(_ALL)}")
    names = parser.parse_args().names or list(_ALL)
    unknown = set(names) - set(_ALL)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed = []
    for name in names:
        print(f"-- {name}", flush=True)
        argv = [sys.executable, "-m", f"tests.benchmarks.{name}", *_ALL[name], "--record"]
        if subprocess.run(argv, check=False).returncode != 0:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
