"""``make soak``: ten minutes of trouble, by a seed that is printed."""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from etcdguard.etcd.local import LocalCluster
from tests.soak.fleet import Fleet, narrate
from tests.support.etcd_versions import default_programs
from tests.support.s3_servers import seaweedfs


def main() -> int:
    """Exit code 1 when a slot was doubled, lost or forgotten."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--slot", type=int, default=15, help="seconds between two slots")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--logs", type=Path, help="keep the daemons' logs in this folder")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything started is ended
    narrate(f"seed {chosen.seed}")
    with tempfile.TemporaryDirectory(prefix="etcdguard-soak-") as name:
        root = Path(name)
        (root / "s3").mkdir()
        with (
            LocalCluster(default_programs().etcd, root / "etcd", unsafe_no_fsync=True) as cluster,
            seaweedfs(root / "s3") as server,
            Fleet(root, cluster, server, chosen.slot) as fleet,
        ):
            fleet.disturb(random.Random(chosen.seed), chosen.seconds, narrate)
            found = fleet.verdict()
            for node in fleet.nodes:
                events = Counter(
                    event
                    for event in ("daemon.leading", "job.failed", "job.circuit_opened", "lock.lost")
                    for _ in node.events(event)
                )
                narrate(f"{node.name}: {dict(events)}")
                if chosen.logs is not None:
                    chosen.logs.mkdir(parents=True, exist_ok=True)
                    shutil.copy(node.log, chosen.logs / f"{node.name}.log")
    narrate(
        f"{found.slots} slots, {found.backups} backups, {len(found.missed)} missed, "
        f"{found.superseded} dropped because another was first"
    )
    for slot, reason in found.missed.items():
        narrate(f"missed {slot}: {reason}")
    for problem in found.problems:
        narrate(f"PROBLEM {problem}")
    return 1 if found.problems else 0


if __name__ == "__main__":
    sys.exit(main())
