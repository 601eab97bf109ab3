"""Three members, an S3 server and nodes, each on a machine of its own as far as the network goes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from etcd3.exceptions import Etcd3Exception

from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.local import TlsFiles
from etcdguard.storage.s3 import S3Store
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.defrags import STEADY
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.load import connect
from tests.support.namespaces import Network
from tests.support.s3_servers import S3Server, make_bucket, second_s3
from tests.support.waiting import eventually

__all__ = ["MEMBERS", "NODES", "NetworkSite", "network_site"]

MEMBERS = ("cp1", "cp2", "cp3")
"""Machines with a member of etcd each. On the first two is a node as well."""
NODES = ("cp1", "cp2", "far")
"""Machines with etcdguard; the last has no member."""


class Members:
    """The cluster, a member a site; ``tests.support.load.NamedMembers``."""

    names = MEMBERS
    tls: TlsFiles | None = None

    def __init__(self, folder: Path, network: Network, programs: EtcdPrograms) -> None:
        self._network = network
        self._processes = [self._start(folder / name, name, programs) for name in MEMBERS]

    @property
    def client_urls(self) -> tuple[str, ...]:
        return tuple(map(self.client_url, self.names))

    def client_url(self, name: str) -> str:
        return f"http://{self._network[name].address}:2379"

    def peer_url(self, name: str) -> str:
        return f"http://{self._network[name].address}:2380"

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _start(self, folder: Path, name: str, programs: EtcdPrograms) -> subprocess.Popen[bytes]:
        folder.mkdir()
        argv = [
            str(programs.etcd.path),
            f"--name={name}",
            f"--data-dir={folder / 'data'}",
            f"--listen-client-urls={self.client_url(name)}",
            f"--advertise-client-urls={self.client_url(name)}",
            f"--listen-peer-urls={self.peer_url(name)}",
            f"--initial-advertise-peer-urls={self.peer_url(name)}",
            f"--initial-cluster={','.join(f'{one}={self.peer_url(one)}' for one in MEMBERS)}",
            "--unsafe-no-fsync",
            *STEADY,
        ]
        with (folder / "etcd.log").open("wb") as log, self._network[name].entered():
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={})


class NetworkSite:
    """The machines and what runs there. All looking is done by the router, which no cut concerns."""

    def __init__(
        self, folder: Path, network: Network, members: Members, server: S3Server, programs: EtcdPrograms
    ) -> None:
        self.folder = folder
        self.network = network
        self.members = members
        self.server = server
        self.programs = programs
        self.bucket = make_bucket(server)
        variables = {**credentials(server), "PATH": programs.search_path}
        self._first = Installation(folder / "first", variables=variables)

    def installation(
        self, name: str, cluster_name: str = "prod", **sections: Mapping[str, Any]
    ) -> Installation:
        """etcdguard with the same keys everywhere; ``sections`` are added to its configuration."""
        here = self._first.copy(self.folder / name)
        here.settings["cluster"] = {"name": cluster_name, "endpoints": list(self.members.client_urls)}
        here.settings["repositories"] = [s3_repository(self.server, self.bucket)]
        here.settings["encryption"]["identity_file"] = str(here.identity_file)
        for section, settings in sections.items():
            here.settings[section] = {**here.settings.get(section, {}), **settings}
        here.save()
        return here

    def catalog(self, here: Installation, cluster_name: str = "prod") -> Catalog:
        store = S3Store(self.server.options(self.bucket, "etcd"), session=self.server.session())
        return Catalog(store, cluster_name, TrustedSigners([PublicKey.load(here.public_key)]))


@contextmanager
def network_site(folder: Path, *more: str) -> Iterator[NetworkSite]:
    """All of it, running; ``more`` are further machines, with nothing on them."""
    programs = default_programs()
    for name in ("s3", "etcd"):
        (folder / name).mkdir()
    with ExitStack() as stack:
        network = stack.enter_context(Network(*MEMBERS, "far", "s3", *more))
        with network["s3"].entered():
            server = stack.enter_context(second_s3(folder / "s3", address=network["s3"].address))
        members = Members(folder / "etcd", network, programs)
        stack.callback(members.close)
        site = NetworkSite(folder, network, members, server, programs)
        eventually(lambda: all(_serves(members, name) for name in MEMBERS), "every member serves")
        yield site


def _serves(members: Members, name: str) -> bool:
    with connect(members, name) as client:
        try:
            client.get("nothing")
        except Etcd3Exception:
            return False
    return True
