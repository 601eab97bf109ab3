"""``restore --all`` onto other hosts, and onto members of every number and layout of directories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.restore_site import UNIT, Site, cleaned, make_site
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_hosts import watched
from tests.support.hosts import Disk, Host, HostSet
from tests.support.hosts_etcd import HostPki, deploy_etcd

pytestmark = pytest.mark.slow

DISK = "/disk"


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("topology")


@pytest.fixture(scope="module")
def six_hosts(hosts_available: None, share: Path) -> Iterator[HostSet]:
    """Each with a small file system of its own, too."""
    with HostSet(6, disk=Disk(DISK, 512), shared=[share]) as hosts, watched(hosts):
        yield hosts


@pytest.fixture
def folder(six_hosts: HostSet, share: Path) -> Iterator[Path]:
    """Where the installation goes; afterwards the hosts are clean."""
    with cleaned(six_hosts.hosts, share / "etcdguard") as folder:
        yield folder


def backed_up(site: Site) -> Site:
    site.put("key", "backed up")
    site.here.backup()
    site.put("key", "written later")
    return site


def moved(site: Site, to: tuple[Host, ...]) -> list[str]:
    """``--map`` for all of the cluster's hosts: their addresses, and the names that ssh knows them by."""
    pairs = zip(site.cluster.hosts, to, strict=True)
    texts = [(f"{old.address}={new.address}", f"{old.name}={new.name}") for old, new in pairs]
    return [part for pair in texts for text in pair for part in ("--map", text)]


def test_three_members_come_back_on_three_new_hosts(
    six_hosts: HostSet, folder: Path, host_pki: HostPki, etcd_binaries: EtcdPrograms
) -> None:
    old, new = six_hosts.hosts[:3], six_hosts.hosts[3:]
    site = backed_up(make_site(six_hosts, deploy_etcd(old, host_pki, etcd_binaries), folder, UNIT))
    rebuilt = deploy_etcd(new, host_pki, etcd_binaries, names=[host.name for host in old], start=False)
    flags = moved(site, new)

    assert "its ssh cp1 may still lead to the old machine" in site.restore(*flags[:2], code=64)[0]
    refused = site.restore(*flags, code=15)
    assert "the cluster is alive" in refused[0], "its members are asked where they were"
    site.destroy(*(host.name for host in old))
    for host in old:
        host.kill_sshd()
    try:
        done = site.restore(*flags)["restore"]
    finally:
        for host in old:
            host.start_sshd()

    on_new_hosts = replace(site, cluster=rebuilt)
    on_new_hosts.assert_serves(key="backed up")
    assert done["hosts"] == {there.address: [here.name] for here, there in zip(old, new, strict=True)}
    members = rebuilt.etcdctl.json("member", "list")["members"]
    assert {member["name"]: member["clientURLs"] for member in members} == {
        here.name: [f"https://{there.address}:2379"] for here, there in zip(old, new, strict=True)
    }
