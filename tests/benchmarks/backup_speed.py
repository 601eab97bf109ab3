"""Backup end to end beside ``etcdctl snapshot save``, in pairs, on real components.

``python -m tests.benchmarks.backup_speed --sizes 100,1000`` fills a one-member etcd (megabytes), starts a
real S3 server, runs A B A B ... and prints medians, the ratio pair by pair, CPU seconds and peak memory. Both
read the same member; etcdctl writes a file and syncs it, etcdguard encrypts and uploads. Absolute times say
little on a shared machine; ratios hold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from etcdguard.etcd.local import LocalCluster
from tests.support.etcd_versions import programs
from tests.support.load import fill
from tests.support.s3_servers import make_bucket, seaweedfs

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Run:
    """One finished process. Seconds; ``peak`` in bytes of resident memory."""

    wall: float
    cpu: float
    peak: int


def measure(argv: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run a command to its end as a whole process; raises when it fails."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(argv, env=dict(environment), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{argv[0]} failed: {output.read().decode(errors='replace')[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def configuration(folder: Path, endpoint: str, bucket: str, s3_url: str) -> Path:
    """A configuration as ``etcdguard init`` would write it, for the S3 server."""
    path = folder / "config.yaml"
    subprocess.run(
        [
            sys.executable, "-m", "etcdguard", "init", "--config", str(path), "--cluster-name", "bench",
            "--repository", f"s3://{bucket}", "--endpoints", endpoint,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    text = path.read_text()
    line = next(one for one in text.splitlines() if "s3:" in one and bucket in one)
    s3 = {"bucket": bucket, "endpoint_url": s3_url, "region": "us-east-1", "addressing_style": "path"}
    path.write_text(text.replace(line, f"    s3: {json.dumps(s3)}"))
    return path


def compare(megabytes: int, runs: int) -> dict[str, float]:
    """Fill, pair, print; returns the medians."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-bench-")))
        tools = programs("3.5")
        cluster = stack.enter_context(
            LocalCluster(
                tools.etcd, base / "etcd", names=("m1",), quota_bytes=8 * 2**30, unsafe_no_fsync=True
            )
        )
        fill(cluster, megabytes * MEGABYTE)
        (base / "s3").mkdir()
        server = stack.enter_context(seaweedfs(base / "s3"))
        bucket = make_bucket(server)
        endpoint = cluster.client_urls[0]
        config = configuration(base, endpoint, bucket, server.endpoint_url)
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
        }
        target = base / "snapshot.db"
        ours = [sys.executable, "-m", "etcdguard", "backup", "--config", str(config), "-q"]
        theirs = [str(tools.etcdctl.path), "--endpoints", endpoint, "snapshot", "save", str(target)]
        pairs = []
        for number in range(runs + 1):
            pair = (measure(theirs, {**environment, "ETCDCTL_API": "3"}), measure(ours, environment))
            if number:  # the first pair warms the page cache
                pairs.append(pair)
        size = target.stat().st_size
    saved, backed = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    ratios = [b.wall / s.wall for s, b in pairs]
    result = {
        "db_bytes": float(size),
        "etcdctl_wall": statistics.median(run.wall for run in saved),
        "etcdguard_wall": statistics.median(run.wall for run in backed),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "etcdguard_cpu": statistics.median(run.cpu for run in backed),
        "etcdguard_peak": max(run.peak for run in backed),
        "etcdctl_peak": max(run.peak for run in saved),
    }
    print(
        f"{size / MEGABYTE:8.0f} MB  etcdctl {result['etcdctl_wall']:6.2f} s  etcdguard "
        f"{result['etcdguard_wall']:6.2f} s  ratio {result['ratio']:.2f} "
        f"({result['ratio_min']:.2f}-{result['ratio_max']:.2f})  cpu {result['etcdguard_cpu']:.2f} s  "
        f"peak {result['etcdguard_peak'] / MEGABYTE:.0f} MB "
        f"(etcdctl {result['etcdctl_peak'] / MEGABYTE:.0f})",
        flush=True,
    )
    return result


def main() -> None:
    """Compare at every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="100,1000", help="megabytes of values, separated by commas")
    parser.add_argument("--runs", type=int, default=5, help="counted pairs per size")
    options = parser.parse_args()
    for size in options.sizes.split(","):
        compare(int(size), options.runs)


if __name__ == "__main__":
    main()
