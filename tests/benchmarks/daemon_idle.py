"""What an idle daemon costs: memory and CPU of one that leads and one that stands by.

    python -m tests.benchmarks.daemon_idle [--seconds 300]

Exit code 1 above 90 MB of memory or 1 % of one CPU. Children are not counted: an idle daemon has none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from etcdguard.etcd.local import LocalCluster
from tests.benchmarks.measuring import MEGABYTE
from tests.benchmarks.record import offer, record, table
from tests.e2e.running import Installation
from tests.support.etcd_versions import default_programs

_MOST_RSS = 90_000_000
_MOST_CPU = 0.01
_PATIENCE = 180.0


def _rss(pid: int) -> int:
    """Resident bytes now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds(pid: int) -> float:
    """User and system time of the process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _start(here: Installation, log: Path, until: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        process = subprocess.Popen(here.argv("daemon"), env=here.environment(), stderr=out, stdout=out)
    deadline = time.monotonic() + _PATIENCE
    while until not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the daemon did not get as far as {until}: {log.read_text()}")
        time.sleep(0.2)
    return process


def _measured(seconds: float) -> dict[str, tuple[int, float]]:
    """Bytes of memory and share of one core of either daemon."""
    daemons: dict[str, subprocess.Popen[bytes]] = {}
    with tempfile.TemporaryDirectory(prefix="etcdguard-idle-") as name:
        root = Path(name)
        with LocalCluster(default_programs().etcd, root / "etcd", unsafe_no_fsync=True) as cluster:
            try:
                for role, event in (("leader", "job.finished"), ("standby", "daemon.started")):
                    here = Installation.of(root / role, cluster)
                    # Slots of the distant future but the one made up for: nothing is due while we look.
                    here.settings["backup"]["schedule"] = "300d"
                    here.save()
                    daemons[role] = _start(here, root / f"{role}.log", event)
                time.sleep(10)
                before = {role: _cpu_seconds(one.pid) for role, one in daemons.items()}
                began = time.monotonic()
                time.sleep(seconds)
                return {
                    role: (
                        _rss(one.pid),
                        (_cpu_seconds(one.pid) - before[role]) / (time.monotonic() - began),
                    )
                    for role, one in daemons.items()
                }
            finally:
                for one in daemons.values():
                    one.kill()
                    one.wait()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=300)
    offer(parser)
    options = parser.parse_args()
    found = _measured(options.seconds)
    rows = [[role, f"{rss / MEGABYTE:.1f} MB", f"{cpu:.2%} of a core"] for role, (rss, cpu) in found.items()]
    text = f"{table(['daemon', 'memory', 'CPU'], rows)}\n\nOver {options.seconds:.0f} seconds."
    daemons = {role: {"rss_bytes": rss, "cpu_share": cpu} for role, (rss, cpu) in found.items()}
    record("daemon-idle", {"seconds": options.seconds, **daemons}, text, keep=options.record)
    return int(any(rss > _MOST_RSS or cpu > _MOST_CPU for rss, cpu in found.values()))


if __name__ == "__main__":
    sys.exit(main())
