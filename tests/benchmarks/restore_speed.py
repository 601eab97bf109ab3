"""``restore --all`` over three hosts beside a careful operator's own procedure, by turns, on real components.

``python -m tests.benchmarks.restore_speed`` (root) takes one backup of a filled database, boots three hosts
with systemd, sshd and etcd over mutual TLS, and then destroys and restores their cluster in three ways:

- bare: host after host over ssh, fetch the object, ``age | zstd``, ``etcdutl snapshot restore``, swap the
  directories; then start etcd on all and wait until all are healthy. Nobody checks anything but etcdutl.
- careful: the same by the letter of docs/recovery-without-etcdguard.md, with the checks it asks for.
- ``etcdguard restore --all``: from an empty prompt to the report, its checks and its proof included.

By hand there is no time to think or to type. Absolute times say little on a shared machine; the ratios within
one turn hold.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etcdguard.etcd.local import LocalCluster
from tests.benchmarks.compared import OURS, Compared, report, sizes
from tests.benchmarks.measuring import MEGABYTE, Run, Spread, cpu_of_children
from tests.benchmarks.peak import peaks
from tests.benchmarks.record import offer
from tests.e2e.restore_site import UNIT, Site, make_site
from tests.e2e.running import Installation
from tests.support.documents import fenced
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.etcdctl import Etcdctl
from tests.support.hosts import HostSet
from tests.support.hosts_etcd import HostPki, deploy_etcd, initial_cluster, peer_url
from tests.support.load import fill

__all__ = ["main"]

_CHECKOUT = Path(__file__).parents[2]
_NODE = "etcdguard-measured"
_NO_QUOTA = ["--quota-backend-bytes=-1"]  # by default no more than 2 GiB may be written to

# A backup's object is to be had where the repository is mounted. $1 names the member, $2 its peer URL, $3 the
# initial cluster, $4 the token, $5 the backup's folder. The identity comes by stdin.
_BEGIN = """
set -euo pipefail
umask 077
systemctl stop etcd.service
mkdir /var/lib/by-hand
cd /var/lib/by-hand
"""
_BARE = """
cp "$5/snapshot.db.zst.age" .
age --decrypt --identity - snapshot.db.zst.age | zstd --decompress --quiet -o snapshot.db
etcdutl snapshot restore snapshot.db --data-dir /var/lib/etcd.new \\
  --name "$1" --initial-advertise-peer-urls "$2" --initial-cluster "$3" --initial-cluster-token "$4" \\
  --bump-revision 1000000000 --mark-compacted
"""
_CAREFUL = """
cp -r "$5" .
cat >identity.txt
NAME=$1 PEER_URL=$2 CLUSTER=$3 TOKEN=$4 DATA_DIR=/var/lib/etcd.new
BACKUP=${5##*/} IDENTITY=identity.txt SIGNER=/etc/etcdguard/signing.pub.pem
"""
_END = """
chown --recursive etcd:etcd /var/lib/etcd.new
mv /var/lib/etcd /var/lib/etcd.before
mv /var/lib/etcd.new /var/lib/etcd
rm -r /var/lib/by-hand
"""

# Runs what follows in a process of its own and prints how much memory the largest process of that had, in kB.
_NOTING = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""

_WRAPPER = f"""\
#!/bin/sh
cd {shlex.quote(str(_CHECKOUT))} || exit 1
exec {shlex.quote(str(Path(sys.prefix) / "bin" / "python"))} -m tests.benchmarks.peak "$@"
"""


@dataclass(frozen=True)
class Restored:
    """One run of etcdguard, with seconds by phase and bytes of resident memory of its processes at most."""

    run: Run
    phases: dict[str, float]
    here: int
    hosts: int


class Bench:
    """Three hosts, one backup, and the ways to restore it."""

    def __init__(self, site: Site, keys: int) -> None:
        self._site = site
        self._keys = keys
        (backup,) = site.here.ids()
        self._backup = site.here.stored(backup)
        self._token = 0

    @property
    def described(self) -> dict[str, Any]:
        """What is restored, and with what."""
        return {
            "db_bytes": json.loads((self._backup / "manifest.json").read_text())["snapshot"]["db_bytes"],
            "stored_bytes": (self._backup / "snapshot.db.zst.age").stat().st_size,
            "keys": self._keys,
            "etcd": self._site.cluster.programs.etcd.version_text,
        }

    def bare(self) -> Run:
        """By hand, with nothing that could be left out."""
        return self._by_hand(_BARE)

    def careful(self) -> Run:
        """By hand, as documented."""
        opening, restoring = fenced("recovery-without-etcdguard.md", "sh")
        etcdctl = self._site.cluster.etcdctl

        def check() -> None:
            etcdctl.run("endpoint", "status", "--cluster", "--write-out=table")
            etcdctl.run("endpoint", "hashkv", "--cluster")
            etcdctl.run("alarm", "list")

        return self._by_hand(_CAREFUL + opening + restoring, check)

    def _by_hand(self, commands: str, check: Callable[[], None] = lambda: None) -> Run:
        self._destroy()
        cluster = self._site.cluster
        identity = self._site.here.identity_file.read_text()
        script = _BEGIN + commands + _END
        together = initial_cluster(cluster.hosts, [host.name for host in cluster.hosts])
        self._token += 1
        peak = 0
        cpu = self._cpu()
        began = time.monotonic()
        for host in cluster.hosts:
            words = (
                host.name,
                peer_url(host),
                together,
                f"t-{self._token}",
                str(self._backup),
            )
            noting = ("python3", "-c", _NOTING, "bash", "-c", script, "by-hand", *words)
            peak = max(peak, 1024 * int(self._ssh(host.name, *noting, text=identity)))
        for host in cluster.hosts:
            self._ssh(host.name, "systemctl", "start", "--no-block", "etcd.service")
        cluster.wait_healthy(300)
        check()
        run = Run(time.monotonic() - began, self._cpu() - cpu, peak)
        self._compare()
        return run

    def _cpu(self) -> float:
        """Seconds of all processors so far, by the hosts and by what was started from here."""
        return self._site.hosts.cpu_seconds() + cpu_of_children()

    def by_etcdguard(self) -> Restored:
        """The whole command."""
        self._destroy()
        here = self._site.here
        noted = here.folder / "peaks"
        shutil.rmtree(noted, ignore_errors=True)
        noted.mkdir()
        argv = [
            sys.executable, "-m", "tests.benchmarks.peak", str(noted), "restore", "latest", "--all",
            "--no-backup", "--config", str(here.config_path), "--identity", str(here.identity_file),
            "--remote-command", f"{_NODE} {noted}", *self._site.flags,
        ]  # fmt: skip
        environment = here.environment(**self._site.path)
        cpu = self._cpu()
        began = time.monotonic()
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        wall, cpu = time.monotonic() - began, self._cpu() - cpu
        if done.returncode != 0:
            raise RuntimeError(f"etcdguard failed: {done.stderr[-2000:]}")
        nodes = peaks(noted, "node")
        if len(nodes) < len(self._site.cluster.hosts):
            raise RuntimeError(f"only {len(nodes)} of the nodes noted their memory")
        (orchestrator,) = peaks(noted, "restore")
        self._compare()
        run = Run(wall, cpu, max(orchestrator, *nodes))
        return Restored(run, json.loads(done.stdout)["restore"]["seconds"], orchestrator, max(nodes))

    def _compare(self) -> None:
        """All ways must restore the same thing: all keys, on all members alike."""
        etcdctl = self._site.cluster.etcdctl
        if len(set(etcdctl.hash_kv().values())) != 1:
            raise RuntimeError("the restored members differ")
        found = _keys(etcdctl)
        if found != self._keys:
            raise RuntimeError(f"{found} keys were restored of {self._keys}")

    def _destroy(self) -> None:
        """All members lost, nothing left of earlier runs, and none of their writes still on its way."""
        self._site.destroy(*(host.name for host in self._site.hosts))
        for host in self._site.hosts:
            host.run("sh", "-c", "rm -rf /var/lib/etcd.* /var/lib/etcdguard")
        shutil.rmtree(self._site.here.folder / "state", ignore_errors=True)
        os.sync()

    def _ssh(self, host: str, *words: str, text: str = "") -> str:
        done = self._site.hosts.ssh(host, shlex.join(words), text=text)
        if done.returncode != 0:
            raise RuntimeError(f"by hand, on {host}: {done.stderr[-2000:]}")
        return done.stdout


@contextmanager
def bench(megabytes: int) -> Iterator[Bench]:
    """Fill a database, back it up, boot the hosts."""
    programs = default_programs()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-bench-")))
        site, keys = _backed_up(folder, programs, megabytes)
        hosts = stack.enter_context(HostSet(3, shared=[folder]))
        cluster = deploy_etcd(
            hosts.hosts, HostPki(folder / "pki"), programs, extra_args=_NO_QUOTA, start=False
        )
        for host in hosts:
            host.write(f"/usr/local/bin/{_NODE}", _WRAPPER, mode=0o755)
            for tool in ("age", "zstd", "openssl"):
                host.copy_in(_stock(tool), f"/usr/local/bin/{tool}")
        yield Bench(make_site(hosts, cluster, site.folder, UNIT), keys)


def _stock(tool: str) -> Path:
    found = shutil.which(tool)
    if found is None:
        raise RuntimeError(f"the procedure by hand needs the `{tool}` command")
    return Path(found)


def _backed_up(folder: Path, programs: EtcdPrograms, megabytes: int) -> tuple[Installation, int]:
    """An installation whose repository holds one backup, and how many keys are in that."""
    with LocalCluster(
        programs.etcd, folder / "etcd", names=("m1",), quota_bytes=8 * 2**30, unsafe_no_fsync=True
    ) as source:
        fill(source, megabytes * MEGABYTE)
        site = Installation.of(folder / "etcdguard", source)
        site.backup()
        keys = _keys(Etcdctl(programs.etcdctl, source))
    shutil.rmtree(folder / "etcd")
    return site, keys


def _keys(etcdctl: Etcdctl) -> int:
    fields = etcdctl.run("get", "/registry/", "--prefix", "--count-only", "--write-out=fields")
    (count,) = (line.split(":")[1] for line in fields.splitlines() if line.startswith('"Count"'))
    return int(count)


@dataclass(frozen=True)
class Turn:
    """Every way once."""

    bare: Run
    careful: Run
    ours: Restored

    def __str__(self) -> str:
        phases = ", ".join(f"{name} {seconds:.1f}" for name, seconds in self.ours.phases.items())
        by_hand = f"bare {self.bare.wall:.1f} s, careful {self.careful.wall:.1f} s"
        return f"{by_hand}, etcdguard {self.ours.run.wall:.1f} s ({phases})"


def compare(megabytes: int, turns: int) -> tuple[dict[str, Any], Compared, str]:
    """Restore by turns, the first of which only warms up; tells each as it comes.

    What was restored, how the ways compare, and where etcdguard's time and memory went.
    """
    with bench(megabytes) as ways:
        done: list[Turn] = []
        for number in range(turns + 1):
            done.append(Turn(ways.bare(), ways.careful(), ways.by_etcdguard()))
            print(f"turn {number}: {done[-1]}", file=sys.stderr, flush=True)
        described = ways.described
    done = done[1:]
    ours = [turn.ours for turn in done]
    phases = {name: Spread.of([one.phases[name] for one in ours]).median for name in ours[0].phases}
    runs = {
        "bare": [turn.bare for turn in done],
        "careful": [turn.careful for turn in done],
        OURS: [one.run for one in ours],
    }
    here, there = max(one.here for one in ours), max(one.hosts for one in ours)
    facts = {**described, "phases": phases, "peak_bytes_orchestrator": here, "peak_bytes_node": there}
    db_bytes: int = described["db_bytes"]
    note = (
        f"{db_bytes / MEGABYTE:.0f} MB are {described['keys']} keys. etcdguard's seconds by phase: "
        f"{', '.join(f'{name} {seconds:.1f}' for name, seconds in phases.items())}. Its peak memory: "
        f"{here / MEGABYTE:.0f} MB for the orchestrator, {there / MEGABYTE:.0f} MB for the largest "
        "`etcdguard node`."
    )
    return facts, Compared(db_bytes, runs), note


def main() -> None:
    """Compare at every size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=sizes, default="1000", help="megabytes, separated by commas")
    parser.add_argument("--turns", type=int, default=5, help="counted turns per size, after one that is not")
    offer(parser)
    options = parser.parse_args()
    facts, found, notes = zip(*(compare(size, options.turns) for size in options.sizes), strict=True)
    report("restore", found, keep=options.record, facts={"restored": facts}, note="\n\n".join(notes))


if __name__ == "__main__":
    main()
