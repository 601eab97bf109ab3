"""What many backups in one bucket cost: ``list --all-clusters`` and ``audit`` on a real S3 server.

    python -m tests.benchmarks.catalog_scale [--counts 10,100,1000,10000] [--each 100] [--turns 3]

Every cluster has a chain of signed manifests and an event for each, as days of hourly backups leave them. Of
each bucket the whole is listed and one cluster audited, by processes of their own that note their peak.
Exit code 1 when the largest takes more than what is promised.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from etcdguard.audit.promise import Promise
from etcdguard.catalog import Catalog, encode_manifest, manifest_digest
from etcdguard.model import BackupId, Encryption, ObjectEntry, Previous
from etcdguard.slots import parse_schedule, slot_id
from etcdguard.storage.memory import MemoryStore
from etcdguard.storage.s3 import S3Store
from tests.benchmarks.compared import sizes
from tests.benchmarks.measuring import MEGABYTE, cpu_of_children
from tests.benchmarks.peak import peaks
from tests.benchmarks.plot import Growth
from tests.benchmarks.record import offer, record, table
from tests.support.backups import IDENTITY, SIGNER, TRUSTED
from tests.support.restores import make_manifest
from tests.support.s3_servers import S3Server, make_bucket, seaweedfs

_LIST_SECONDS, _AUDIT_SECONDS, _MEMORY = 20.0, 5.0, 300_000_000
_WRITERS = 16
_PROMISE = Promise({"backup": parse_schedule(["1h"])}, None, (IDENTITY.recipient.fingerprint,))


def _cluster(name: str, count: int, end: datetime) -> dict[str, bytes]:
    """One cluster's objects: an hourly backup each, the last at ``end``."""
    store = MemoryStore("one")
    catalog = Catalog(store, name, TRUSTED)
    previous: Previous | None = None
    for number in range(1, count + 1):
        at = end - timedelta(hours=count - number)
        backup_id = str(BackupId.new(at, 1000 + number))
        body = f"ciphertext of {backup_id}".encode()
        key = f"backups/{backup_id}/snapshot.db.zst.age"
        made = make_manifest(revision=1000 + number)
        manifest = made.model_copy(
            update={
                "id": backup_id,
                "sequence": number,
                "epoch": 1,
                "previous": previous,
                "created_at": at,
                "finished_at": at,
                "slot": slot_id(at),
                "encryption": Encryption(format="age-encryption.org/v1", recipients=_PROMISE.recipients),
                "cluster": made.cluster.model_copy(update={"name": name}),
                "objects": (ObjectEntry(key=key, bytes=len(body), sha256=hashlib.sha256(body).hexdigest()),),
            }
        )
        raw = encode_manifest(manifest)
        store.put(f"{name}/{key}", body)
        catalog.commit(backup_id, raw, SIGNER.sign(raw))
        facts = {
            "id": backup_id,
            "sequence": number,
            "epoch": 1,
            "cluster_id": manifest.cluster.cluster_id,
            "revision": manifest.snapshot.revision,
            "created_at": at.isoformat(),
            "slot": manifest.slot,
            "db_bytes": manifest.snapshot.db_bytes,
            "stored_bytes": len(body),
            "manifest_sha256": manifest_digest(raw),
            "policy": _PROMISE.facts,
        }
        catalog.trail.record("backup", facts, at=at, actor="node-1", signer=SIGNER)
        previous = Previous(id=backup_id, sha256=manifest_digest(raw))
    return {info.key: b"".join(store.get(info.key)) for info in store.list("")}


def _fill(store: S3Store, clusters: Mapping[str, int], end: datetime) -> None:
    with ThreadPoolExecutor(_WRITERS) as pool:
        for name, count in clusters.items():
            objects = _cluster(name, count, end)
            list(pool.map(lambda key, found=objects: store.put(key, found[key]), objects))


def _configure(folder: Path, server: S3Server, bucket: str) -> Path:
    (folder / "signing.pem").write_bytes(SIGNER.private_pem())
    (folder / "signing.pem").chmod(0o600)
    settings: dict[str, Any] = {
        "cluster": {"name": "cluster-000"},
        "encryption": {"recipients": [str(IDENTITY.recipient)]},
        "signing": {"key_file": "signing.pem"},
        "backup": {"schedule": "1h"},
        "repositories": [
            {
                "name": "bucket",
                "s3": {"bucket": bucket, "endpoint_url": server.endpoint_url, "region": server.region},
            }
        ],
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def _run(folder: Path, config: Path, server: S3Server, *args: str) -> tuple[float, str]:
    """Seconds from start to end of the process, and what it printed; it must end well."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCDGUARD_")}
    environment |= {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
    argv = [sys.executable, "-m", "tests.benchmarks.peak", str(folder), *args, "--config", str(config)]
    began = time.monotonic()
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(args)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return took, done.stdout


@dataclass(frozen=True)
class Cost:
    """Of one command: medians in seconds, of the clock and of its own processors, and its peak in bytes."""

    seconds: float
    cpu: float
    peak: int
    out: str = field(repr=False)

    @property
    def figures(self) -> dict[str, Any]:
        """For the JSON."""
        return {"wall": self.seconds, "cpu": self.cpu, "peak_bytes": self.peak}


def _measured(folder: Path, config: Path, server: S3Server, turns: int, *args: str) -> Cost:
    for left in folder.glob(f"{args[0]}-*"):
        left.unlink()
    seconds, cpu, out = [], [], ""
    for _ in range(turns):
        before = cpu_of_children()
        took, out = _run(folder, config, server, *args)
        seconds.append(took)
        cpu.append(cpu_of_children() - before)
    return Cost(statistics.median(seconds), statistics.median(cpu), max(peaks(folder, args[0])), out)


def _clusters(count: int, each: int) -> dict[str, int]:
    """How many backups which cluster has; the last may have fewer."""
    whole, rest = divmod(count, each)
    sizes = [each] * whole + ([rest] if rest else [])
    return {f"cluster-{number:03d}": size for number, size in enumerate(sizes)}


def _at(folder: Path, server: S3Server, count: int, each: int, turns: int) -> tuple[Cost, Cost]:
    """The costs of a list and an audit in a new bucket with that many backups."""
    bucket = make_bucket(server)
    store = S3Store(server.options(bucket), session=server.session())
    end = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0)
    _fill(store, _clusters(count, each), end)
    config = _configure(folder, server, bucket)
    listed = _measured(folder, config, server, turns, "list", "--all-clusters", "-o", "json")
    if (found := listed.out.count('"cluster":')) != count:
        raise SystemExit(f"{found} of {count} were listed")
    return listed, _measured(folder, config, server, turns, "audit", "-o", "json")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=sizes, default="10,100,1000,10000", help="how many backups")
    parser.add_argument("--each", type=int, default=100, help="how many of them a cluster has at most")
    parser.add_argument("--turns", type=int, default=3)
    offer(parser)
    options = parser.parse_args()
    costs: list[tuple[Cost, Cost]] = []
    with tempfile.TemporaryDirectory(prefix="etcdguard-scale-") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with seaweedfs(folder / "server") as server:
            for count in options.counts:
                costs.append(_at(folder, server, count, options.each, options.turns))
                print(count, *costs[-1], flush=True)
    head = ("backups", "list", "of CPU", "per backup", "peak", "audit", "of CPU", "peak")
    rows = [
        [
            str(count),
            f"{listed.seconds:.1f} s",
            f"{listed.cpu:.1f} s",
            f"{listed.seconds / count * 1000:.2f} ms",
            f"{listed.peak / MEGABYTE:.0f} MB",
            f"{audited.seconds:.1f} s",
            f"{audited.cpu:.1f} s",
            f"{audited.peak / MEGABYTE:.0f} MB",
        ]
        for count, (listed, audited) in zip(options.counts, costs, strict=True)
    ]
    figures = {
        "each": options.each,
        "counts": [
            {"backups": count, "list": listed.figures, "audit": audited.figures}
            for count, (listed, audited) in zip(options.counts, costs, strict=True)
        ],
    }
    seconds = {
        "list": [listed.seconds for listed, _ in costs],
        "audit of one cluster": [audited.seconds for _, audited in costs],
    }
    growth = Growth("backups", options.counts, seconds)
    record("catalog", figures, table(head, rows), keep=options.record, growth=growth)
    listed, audited = costs[-1]
    too_much = (
        listed.seconds > _LIST_SECONDS
        or audited.seconds > _AUDIT_SECONDS
        or max(listed.peak, audited.peak) > _MEMORY
    )
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
