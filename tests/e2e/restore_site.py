"""A cluster on test hosts, and an installation here from which it is backed up and restored over ssh."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from etcdguard.etcd.local import TlsFiles
from tests.e2e.running import Installation
from tests.support.hosts import Host, HostSet
from tests.support.hosts_etcd import (
    MANIFESTS,
    SYSTEMD_TLS,
    HostCluster,
    client_url,
    peer_url,
    remove_etcd,
)

__all__ = ["POD", "UNIT", "Sight", "Site", "cleaned", "make_site"]

UNIT = {"kind": "systemd", "unit": "etcd.service"}
POD = {"kind": "static-pod", "manifest": f"{MANIFESTS}/etcd.yaml"}

_FOLDERS = ("/etc/etcdguard", "/var/lib/etcdguard", "/etc/systemd/system/*.service.d")


@dataclass(frozen=True)
class Sight:
    """One member, seen from outside: its data directory and the run of its unit."""

    inode: int
    changed: int
    run: str
    """systemd's invocation of the unit: another one after every start."""


@dataclass
class Site:
    """What a test works with. ``hosts`` may be more than the cluster has members."""

    hosts: HostSet
    cluster: HostCluster
    here: Installation

    @property
    def flags(self) -> tuple[str, ...]:
        """What every restore here is given."""
        return ("--yes", "-o", "json", "--ssh-config", str(self.hosts.ssh_config))

    @property
    def path(self) -> dict[str, Any]:
        """The search path on which this machine finds the cluster's etcdutl."""
        return {"PATH": f"{self.cluster.programs.search_path}:/usr/bin:/bin"}

    def restore(self, *flags: str, code: int = 0) -> Any:
        """Restore all members; answers the document, or error and hint where ``code`` is not 0."""
        done = self.here.run("restore", "--all", *self.flags, *flags, code=code, **self.path)
        return done.document if code == 0 else done.problem

    @property
    def plans(self) -> set[str]:
        """The ids of the restores begun here."""
        return {folder.name for folder in (self.here.folder / "state").glob("*/")}

    def plan_file(self, plan: str) -> Path:
        """The file of a plan that was begun here."""
        return self.here.folder / "state" / plan / "plan.json"

    def put(self, key: str, value: str) -> None:
        """Write a key."""
        self.cluster.etcdctl.run("put", key, value)

    def assert_serves(self, **expected: str) -> None:
        """Every member is a voter, one leads, hashes are equal, these values hold, and it takes writes."""
        self.cluster.wait_healthy()
        etcdctl = self.cluster.etcdctl
        members = etcdctl.json("member", "list")["members"]
        assert [member.get("isLearner", False) for member in members] == [False] * len(self.cluster.hosts)
        leaders = {one["Status"]["leader"] for one in etcdctl.json("endpoint", "status")}
        assert len(leaders) == 1
        hashes = etcdctl.common_hashes()
        assert len(hashes) == len(self.cluster.hosts)
        assert len(set(hashes.values())) == 1
        for key, value in expected.items():
            assert etcdctl.get(key) == value
        self.put("after", "written")

    def destroy(self, *names: str) -> None:
        """Stop the members on those hosts and delete what they stored."""
        for host in (self.hosts[name] for name in names):
            # Not left to start again: without data, but with state "new", it would found an empty cluster.
            host.systemctl("stop", "etcd.service")
            folders = [f"{self.cluster.data_dir}/member"]
            folders += [self.cluster.wal_dir] if self.cluster.wal_dir else []
            host.run("rm", "-rf", *folders)

    def sights(self) -> dict[str, Sight]:
        """Every member as it is seen from outside just now, by its host's name."""
        return {host.name: self._sight(host) for host in self.cluster.hosts}

    def _sight(self, host: Host) -> Sight:
        found = host.path(self.cluster.data_dir).stat()
        shown = host.systemctl("show", "--property=InvocationID", "--value", "etcd.service")
        return Sight(found.st_ino, found.st_mtime_ns, shown.stdout.strip())

    def kept(self, host: Host) -> list[str]:
        """What lies beside the data directory of the cluster's member there."""
        found = host.run("sh", "-c", f"ls -d {self.cluster.data_dir}.* 2>/dev/null", check=False).stdout
        return found.split()


def make_site(
    hosts: HostSet,
    cluster: HostCluster,
    folder: Path,
    service: dict[str, str],
    tls: TlsFiles = SYSTEMD_TLS,
) -> Site:
    """Install etcdguard for that cluster in ``folder`` here, and on all hosts, which have ``tls``."""
    here = Installation(folder)
    here.settings["cluster"] = {
        "name": "prod",
        "endpoints": list(cluster.client_urls),
        "cacert": str(cluster.tls.ca),
        "cert": str(cluster.tls.client_cert),
        "key": str(cluster.tls.client_key),
    }
    here.settings["members"] = [_member(host, cluster, service) for host in cluster.hosts]
    here.settings["restore"] = {"state_dir": str(folder / "state")}
    here.save()
    for host in hosts:
        _install_on(host, here, cluster, tls)
    return Site(hosts, cluster, here)


@contextmanager
def cleaned(hosts: Sequence[Host], folder: Path) -> Iterator[Path]:
    """A folder for the installation; afterwards it is gone and the hosts are as they were."""
    yield folder
    for host in hosts:
        host.run("sh", "-c", f"rm -rf {' '.join(_FOLDERS)}")
    remove_etcd(hosts)
    shutil.rmtree(folder)


def _member(host: Host, cluster: HostCluster, service: dict[str, str]) -> dict[str, Any]:
    return {
        "name": host.name,
        "host": host.address,
        "ssh": host.name,
        "peer_urls": [peer_url(host)],
        "client_urls": [client_url(host)],
        "data_dir": cluster.data_dir,
        **({"wal_dir": cluster.wal_dir} if cluster.wal_dir else {}),
        "service": dict(service),
    }


def _install_on(host: Host, here: Installation, cluster: HostCluster, tls: TlsFiles) -> None:
    """The same repository, and no way to open backups: the identity comes with the restore."""
    settings = {
        "cluster": {
            "name": "prod",
            "endpoints": list(cluster.client_urls),
            "cacert": str(tls.ca),
            "cert": str(tls.client_cert),
            "key": str(tls.client_key),
        },
        "repositories": here.settings["repositories"],
        "encryption": {"recipients": here.settings["encryption"]["recipients"]},
        "signing": {"trusted_signers": ["/etc/etcdguard/signing.pub.pem"]},
    }
    host.write("/etc/etcdguard/config.yaml", yaml.safe_dump(settings))
    host.write("/etc/etcdguard/signing.pub.pem", here.public_key.read_bytes())
