"""Three hosts with a cluster that is restored again and again, and what can be seen of it without etcdguard.

The cluster that one restore leaves behind is the old one of the next: only a failure asks for a new one.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import yaml

from tests.e2e.restore_site import UNIT, Sight, Site, cleaned, make_site
from tests.e2e.running import Done
from tests.e2e.stopping import Orchestrator
from tests.support.etcd_versions import EtcdPrograms
from tests.support.hosts import Disk, Host, HostSet
from tests.support.hosts_etcd import HostPki, deploy_etcd

__all__ = ["DISK", "End", "World", "world"]

_DATA = "/var/lib/etcd/data"
_IDENTITY = "/etc/etcdguard/identity.txt"
_KEY = "key"
_TIMEOUT = 600.0

DISK = Disk("/var/lib/etcd", 640)
"""Room for the old member, the new one and one that is kept: each has two segments of 64 MiB for its log."""

End = Literal["restored", "untouched"]
_Kind = Literal["old", "new"]


class World:
    """See ``world``, which makes it."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.wrong_identity = site.here.folder / "wrong-identity.txt"
        site.put(_KEY, "backed up")
        self.backup = site.here.backup()
        manifest = json.loads(next(site.here.stored(self.backup).glob("manifest.json")).read_text())
        self._revision = int(manifest["snapshot"]["revision"])
        (self._hash,) = set(site.cluster.etcdctl.hash_kv(self._revision).values())
        self._count = 0
        self._old: Mapping[str, Sight] = {}
        self._old_cluster = ""
        self._furnish()

    @property
    def hosts(self) -> HostSet:
        """The three."""
        return self.site.hosts

    @property
    def victim(self) -> Host:
        """The host to which things happen."""
        return self.hosts["cp2"]

    def begin(self) -> None:
        """What runs now is the old cluster from here on; it holds a key that no backup has."""
        self._count += 1
        for host in self.hosts:
            host.run("sh", "-c", f"rm -rf {_DATA}.*")
        self.site.cluster.wait_healthy()
        self.site.put(_KEY, self._later)
        self._old = self.site.sights()
        self._old_cluster = self._cluster_id()

    # -- etcdguard ---------------------------------------------------------------------------------------

    def start(self, *phases: str, own_identity: bool) -> Orchestrator:
        """Begin a restore that stops at the first of these phases; the hosts' keys instead of ours."""
        identity = () if own_identity else self._identity
        arguments = ("restore", self.backup, "--all", *self._flags, *identity)
        return Orchestrator(self.site, phases, arguments)

    def restore(self, *, identity: Path | None = None) -> Done:
        """Begin a restore and carry it through."""
        return self._run("restore", self.backup, "--all", *self._flags, *self._sent(identity))

    def go_on(self, plan: str, *, identity: Path | None = None) -> Done:
        """``restore run`` with the plan that was begun."""
        file = self.site.plan_file(plan)
        return self._run("restore", "run", "--plan", file, "--all", *self._flags, *self._sent(identity))

    def roll_back(self, plan: str) -> Done:
        """``restore rollback``."""
        return self._run("restore", "rollback", plan, "--yes")

    # -- looking -----------------------------------------------------------------------------------------

    def assert_untouched(self, *, runs: bool, without: Host | None = None) -> None:
        """Every directory is the old one, unchanged; ``runs``: the old members have not even restarted."""
        for name, now in self.site.sights().items():
            before = self._old[name]
            assert now.inode == before.inode, f"{name}: another data directory"
            if runs and (without is None or name != without.name):
                assert now == before, f"{name}: was {before}, is {now}"

    def assert_no_mixture(self) -> None:
        """While directories of both kinds stand in place, nothing runs on any of them."""
        kinds = self._kinds()
        if len(set(kinds.values())) > 1:
            running = [host.name for host in self.hosts if host.processes("etcd")]
            assert not running, f"{', '.join(running)} runs in a mixture: {kinds}"

    def end(self) -> End:
        """Whether the new cluster runs, or the old one, all of it. Anything else raises AssertionError."""
        kinds = self._kinds()
        assert len(set(kinds.values())) == 1, f"a mixture: {kinds}"
        restored = "new" in kinds.values()
        self.site.assert_serves(**{_KEY: "backed up" if restored else self._later})
        leftovers = {host.name: self.site.kept(host) for host in self.hosts}
        if not restored:
            assert self._cluster_id() == self._old_cluster
            assert not any(leftovers.values()), leftovers
            return "untouched"
        assert self._cluster_id() != self._old_cluster
        hashes = self.site.cluster.etcdctl.hash_kv(self._revision)
        assert set(hashes.values()) == {self._hash}, f"{hashes}, in the backup {self._hash}"
        for host in self.hosts:
            (kept,) = leftovers[host.name]
            assert host.path(kept).stat().st_ino == self._old[host.name].inode
        return "restored"

    # -- inside ------------------------------------------------------------------------------------------

    @property
    def _later(self) -> str:
        return f"written later, {self._count}"

    @property
    def _flags(self) -> tuple[str, ...]:
        return (*self.site.flags, "--i-know-quorum-is-alive")

    @property
    def _identity(self) -> tuple[str | Path, ...]:
        return ("--identity", self.site.here.identity_file)

    def _sent(self, identity: Path | None) -> tuple[str | Path, ...]:
        return self._identity if identity is None else ("--identity", identity)

    def _run(self, *arguments: str | Path) -> Done:
        process = self.site.here.start(*arguments, **self.site.path)
        out, err = process.communicate(timeout=_TIMEOUT)
        return Done(process.returncode, out, err)

    def _cluster_id(self) -> str:
        status = self.site.cluster.etcdctl.json("endpoint", "status")
        (found,) = {format(one["Status"]["header"]["cluster_id"], "x") for one in status}
        return found

    def _kinds(self) -> dict[str, _Kind]:
        now = {host.name: host.path(_DATA).stat().st_ino for host in self.hosts}
        return {name: "old" if inode == self._old[name].inode else "new" for name, inode in now.items()}

    def _furnish(self) -> None:
        """Hosts have an identity of their own, for when none is sent; this machine sends one only if told."""
        here = self.site.here
        del here.settings["encryption"]["identity_file"]
        here.save()
        other = self.site.here.folder / "other"
        subprocess.run(
            [sys.executable, "-m", "etcdguard", "init", "--cluster-name", "x", "--config", other / "c.yaml"],
            check=True,
            capture_output=True,
        )
        shutil.copy(other / "identity.txt", self.wrong_identity)
        for host in self.hosts:
            settings = yaml.safe_load(host.read("/etc/etcdguard/config.yaml"))
            settings["encryption"]["identity_file"] = _IDENTITY
            host.write("/etc/etcdguard/config.yaml", yaml.safe_dump(settings))
            host.write(_IDENTITY, here.identity_file.read_bytes(), mode=0o600)

    def give_key(self, host: Host, *, wrong: bool) -> None:
        """The identity that this host opens backups with when none is sent."""
        file = self.wrong_identity if wrong else self.site.here.identity_file
        host.write(_IDENTITY, file.read_bytes(), mode=0o600)


@contextmanager
def world(hosts: HostSet, pki: HostPki, programs: EtcdPrograms, folder: Path) -> Iterator[World]:
    """A cluster with a backup on these hosts, which must have ``DISK`` and share the parent of ``folder``."""
    with cleaned(hosts.hosts, folder):
        cluster = deploy_etcd(hosts.hosts, pki, programs, data_dir=_DATA)
        yield World(make_site(hosts, cluster, folder, UNIT))
