"""Backup end to end beside what else one could do, by turns, on real components.

``python -m tests.benchmarks.backup_speed --sizes 100,1000,4000`` fills a one-member etcd (megabytes), starts
a real S3 server, and lets every way have its turn:

- save: ``etcdctl snapshot save``, a plain file on the disk and nothing else;
- shell: that, then ``zstd | age`` into an upload, as the scripts do it that everybody has;
- etcdbrctl, where it is on PATH: a full snapshot into the same store;
- etcdguard: ``etcdguard backup``.

``--store-rate`` sets the store apart: that many megabytes a second reach it, as over a network.

Prints medians, ratios turn by turn, CPU seconds and peak memory. Absolute times say little on a shared
machine; ratios hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from etcdguard.etcd.local import LocalCluster
from tests.benchmarks.compared import OURS, Compared, report, sizes
from tests.benchmarks.measuring import MEGABYTE, Run, measure
from tests.benchmarks.record import offer
from tests.benchmarks.throttle import throttled
from tests.support.etcd_versions import EtcdPrograms, programs
from tests.support.load import fill
from tests.support.s3_servers import S3Server, make_bucket, seaweedfs

__all__ = ["Bench", "bench", "configuration"]

_SHELL = """
set -euo pipefail
etcdctl --endpoints "$1" snapshot save "$2"
zstd --quiet --stdout -1 "$2" | age --recipient "$3" | "$7" -m tests.benchmarks.upload "$4" "$5" "$6"
"""


@dataclass(frozen=True)
class Bench:
    """A filled member, a bucket, and how each way is called."""

    endpoint: str
    config: Path
    environment: Mapping[str, str]
    server: S3Server
    bucket: str
    programs: EtcdPrograms
    folder: Path

    def ways(self) -> dict[str, list[str]]:
        """What to run, by name."""
        ways = {"save": self.save(), "shell": self.shell()}
        found = shutil.which("etcdbrctl")
        if found is not None:
            ways["etcdbrctl"] = self._etcdbrctl(found)
        return {**ways, OURS: self.etcdguard()}

    def save(self) -> list[str]:
        """The yardstick."""
        target = str(self.folder / "saved.db")
        return [str(self.programs.etcdctl.path), "--endpoints", self.endpoint, "snapshot", "save", target]

    def shell(self) -> list[str]:
        """The script."""
        target, recipient = str(self.folder / "piped.db"), self._recipient()
        words = (self.endpoint, target, recipient, self.server.endpoint_url, self.bucket, "by-hand")
        return ["bash", "-c", _SHELL, "shell", *words, sys.executable]

    def etcdguard(self, *options: str) -> list[str]:
        """Ours."""
        return [sys.executable, "-m", "etcdguard", "backup", "--config", str(self.config), "-q", *options]

    def _etcdbrctl(self, path: str) -> list[str]:
        """gardener's tool, one full snapshot; it compresses when told, and does not encrypt."""
        return [
            path, "snapshot", f"--endpoints={self.endpoint}", "--storage-provider=S3",
            f"--store-container={self.bucket}", "--store-prefix=etcdbrctl", "--compress-snapshots=true",
            "--full-snapshot=true",
        ]  # fmt: skip

    def _recipient(self) -> str:
        lines = self.config.read_text().splitlines()
        (found,) = {
            word for line in lines for word in line.replace('"', " ").split() if word.startswith("age1")
        }
        return found


@contextmanager
def bench(megabytes: int, *, store_rate: float | None = None) -> Iterator[Bench]:
    """Fill a member, start a store, configure. ``store_rate``: the bytes a second that the store takes."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-bench-")))
        tools = programs("3.5")
        cluster = stack.enter_context(
            LocalCluster(tools.etcd, base / "etcd", names=("m1",), quota_bytes=8 * 2**30)
        )
        fill(cluster, megabytes * MEGABYTE)
        (base / "s3").mkdir()
        server = stack.enter_context(seaweedfs(base / "s3"))
        if store_rate is not None:
            slow = stack.enter_context(throttled(server.endpoint_url, store_rate))
            server = replace(server, endpoint_url=slow)
        bucket = make_bucket(server)
        endpoint = cluster.client_urls[0]
        environment = {
            **os.environ,
            "ETCDCTL_API": "3",
            "PATH": f"{tools.etcdctl.path.parent}:{os.environ['PATH']}",
            "AWS_ACCESS_KEY_ID": server.access_key,
            "AWS_SECRET_ACCESS_KEY": server.secret_key,
            "AWS_ENDPOINT_URL_S3": server.endpoint_url,
            "AWS_REGION": "us-east-1",
        }
        config = configuration(base, endpoint, bucket, server.endpoint_url)
        yield Bench(endpoint, config, environment, server, bucket, tools, base)


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


def compare(megabytes: int, turns: int, store_rate: float | None = None) -> Compared:
    """Every way at one size."""
    with bench(megabytes, store_rate=store_rate) as scene:
        ways = scene.ways()
        runs: dict[str, list[Run]] = {name: [] for name in ways}
        for number in range(turns + 1):
            for name, argv in ways.items():
                os.sync()  # each way pays for its own writes, and for nobody else's
                run = measure(argv, scene.environment)
                if number:  # the first turn warms the page cache
                    runs[name].append(run)
        return Compared((scene.folder / "saved.db").stat().st_size, runs)


def main() -> None:
    """Compare at every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=sizes, default="100,1000", help="megabytes, separated by commas")
    parser.add_argument("--turns", type=int, default=5, help="counted turns per size")
    parser.add_argument("--store-rate", type=int, help="megabytes a second that the store takes, at most")
    offer(parser)
    options = parser.parse_args()
    slow = options.store_rate
    rate = None if slow is None else slow * MEGABYTE
    found = [compare(size, options.turns, rate) for size in options.sizes]
    report("backup" if slow is None else f"backup-{slow}-mb", found, keep=options.record)


if __name__ == "__main__":
    main()
