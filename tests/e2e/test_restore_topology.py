"""``restore --all`` onto other hosts, and onto members of every number and layout of directories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.restore_site import UNIT, Site, cleaned, make_site
from tests.e2e.stopping import killed_at
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_hosts import watched
from tests.support.hosts import Disk, Host, HostSet
from tests.support.hosts_etcd import HostPki, deploy_etcd

pytestmark = pytest.mark.slow

DATA, WAL, DISK = "/var/lib/etcd", "/var/lib/etcd-logs/wal", "/disk"

AS_NOBODY = (
    "setpriv --reuid=65534 --regid=65534 --clear-groups "
    # To find etcdguard and its Python, wherever a checkout has them.
    "--inh-caps=+dac_read_search --ambient-caps=+dac_read_search etcdguard"
)


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


def test_five_members_with_logs_of_their_own(
    six_hosts: HostSet, folder: Path, host_pki: HostPki, etcd_binaries: EtcdPrograms
) -> None:
    five = six_hosts.hosts[:5]
    site = backed_up(
        make_site(six_hosts, deploy_etcd(five, host_pki, etcd_binaries, wal_dir=WAL), folder, UNIT)
    )
    site.destroy("cp1", "cp2", "cp3")
    for host in five:
        host.run(
            "install", "--directory", "--owner=nobody", "/var/lib/etcdguard", "/var/lib/etcdguard/restore"
        )
    refused = site.restore("--remote-command", AS_NOBODY, code=15)[0]
    assert f"{DATA} belongs to another user" in refused
    assert f"{WAL} belongs to another user" in refused
    assert site.hosts["cp5"].is_active("etcd.service")

    done = site.restore()["restore"]

    site.assert_serves(key="backed up")
    for host in five:
        owners = host.run("stat", "-c", "%U %a", DATA, WAL, f"{DATA}/member/snap/db").stdout
        assert owners.split("\n")[:2] == ["etcd 700", "etcd 700"]
        assert owners.split("\n")[2].startswith("etcd ")
        assert host.exists(f"{WAL}/0000000000000000-0000000000000000.wal")
    assert f"{WAL}.before-{done['plan_id']}" in [
        path for member in done["members"] if member["name"] == "cp4" for path in member["kept"]
    ]


def test_a_lone_member(
    six_hosts: HostSet, folder: Path, host_pki: HostPki, etcd_binaries: EtcdPrograms
) -> None:
    site = backed_up(
        make_site(six_hosts, deploy_etcd(six_hosts.hosts[5:], host_pki, etcd_binaries), folder, UNIT)
    )
    site.destroy("cp6")

    site.restore()

    site.assert_serves(key="backed up")


@pytest.fixture
def mounted(six_hosts: HostSet) -> Iterator[tuple[Host, ...]]:
    """Three hosts: a plain data directory, one that is a bind mount, and one on a file system of its own."""
    plain, bound, disk = six_hosts.hosts[:3]
    for host, source in ((bound, "/srv/etcd"), (disk, DISK)):
        host.run("mkdir", "-p", DATA, source)
        host.run("mount", "--bind", source, DATA)
    yield plain, bound, disk
    for host in (bound, disk):
        host.run("umount", DATA)


def test_mount_points_keep_their_place(
    mounted: tuple[Host, ...],
    six_hosts: HostSet,
    folder: Path,
    host_pki: HostPki,
    etcd_binaries: EtcdPrograms,
) -> None:
    site = backed_up(make_site(six_hosts, deploy_etcd(mounted, host_pki, etcd_binaries), folder, UNIT))
    _, bound, disk = mounted
    assert disk.exists(f"{DATA}/lost+found")
    for host in mounted:
        host.run("chmod", "750", DATA)
    before = _entries(mounted)

    plan = killed_at(site, "prove")
    assert before != _entries(mounted)
    site.here.run("restore", "rollback", plan, "--yes")
    site.assert_serves(key="written later")
    assert before == _entries(mounted)

    site.destroy("cp1", "cp3")
    done = site.restore()["restore"]

    site.assert_serves(key="backed up")
    inside = f"{DATA}/before-{done['plan_id']}"
    assert {member["name"]: member["kept"] for member in done["members"]} == {
        "cp1": [f"{DATA}.before-{done['plan_id']}"],
        "cp2": [inside],
        "cp3": [inside],
    }
    for host in mounted:
        assert host.run("stat", "-c", "%U %a", DATA, f"{DATA}/member").stdout == "etcd 700\netcd 700\n"
    assert bound.exists("/srv/etcd/member/snap/db")
    bound.systemctl("restart", "etcd.service")
    site.assert_serves(after="written")

    site.here.run("restore", "cleanup", done["plan_id"], "--yes")
    again = site.restore("--i-know-quorum-is-alive")["restore"]

    site.assert_serves(key="backed up")
    assert not disk.exists(inside)
    assert disk.exists(f"{DATA}/before-{again['plan_id']}/member/snap/db")


def _entries(hosts: tuple[Host, ...]) -> list[str]:
    """Of each data directory and what is beside it: names, owners, modes."""
    return [
        host.run(
            "sh",
            "-c",
            f"ls -d {DATA} {DATA}.*; stat -c '%n %U %a' {DATA} {DATA}/* {DATA}/.[!.]*",
            check=False,
        ).stdout
        for host in hosts
    ]
