"""``restore --all`` over ssh onto three machines on which systemd runs etcd over mutual TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.restore_site import POD, UNIT, Site, cleaned, make_site
from tests.support.etcd_versions import EtcdPrograms
from tests.support.hosts import HostSet
from tests.support.hosts_etcd import (
    CONTROL_PLANE,
    MANIFESTS,
    STATIC_POD_TLS,
    HostPki,
    deploy_etcd,
    deploy_static_pods,
)

pytestmark = pytest.mark.slow

DATA = "/var/lib/etcd"
PHASES = ("stage", "quiesce", "barrier", "swap", "gate", "start", "prove", "reopen")


@pytest.fixture
def folder(three_hosts: HostSet, host_share: Path) -> Iterator[Path]:
    """Where the installation goes; afterwards the hosts are clean."""
    with cleaned(three_hosts.hosts, host_share / "etcdguard") as folder:
        yield folder


@pytest.fixture
def site(three_hosts: HostSet, host_pki: HostPki, folder: Path, etcd_binaries: EtcdPrograms) -> Site:
    cluster = deploy_etcd(three_hosts.hosts, host_pki, etcd_binaries)
    made = make_site(three_hosts, cluster, folder, UNIT)
    made.put("key", "backed up")
    made.here.backup()
    made.put("key", "written later")
    return made


@pytest.fixture
def kubernetes(three_hosts: HostSet, host_pki: HostPki, folder: Path, etcd_binaries: EtcdPrograms) -> Site:
    cluster = deploy_static_pods(three_hosts.hosts, host_pki, etcd_binaries)
    made = make_site(three_hosts, cluster, folder, POD, STATIC_POD_TLS)
    made.put("/registry/key", "backed up")
    made.here.backup()
    made.put("/registry/key", "written later")
    return made


def test_three_destroyed_members_come_back_and_can_be_restored_again(site: Site) -> None:
    site.destroy("cp1", "cp2", "cp3")

    done = site.restore()["restore"]

    site.assert_serves(key="backed up")
    status = site.cluster.etcdctl.json("endpoint", "status")
    assert {format(one["Status"]["header"]["cluster_id"], "x") for one in status} == {done["cluster_id"]}
    assert done["hosts"] == {host.address: [host.name] for host in site.hosts}
    assert set(done["seconds"]) == {"preflight", *PHASES, "record", "backup"}
    assert site.here.ids()[-1] == done["fresh_backup"]
    assert done["downtime_seconds"] < sum(done["seconds"].values()) + 1
    assert set(done["proof"]) >= {"members", "leader", "revision", "hash", "canary"}
    for host in site.hosts:
        assert host.run("stat", "-c", "%U %a", DATA, f"{DATA}/member").stdout == "etcd 700\netcd 700\n"
        assert host.is_active("etcd.service")
        assert not host.run("sh", "-c", "grep -r AGE-SECRET /var/lib/etcdguard", check=False).stdout

    newest = site.here.backup()
    refused = site.restore(code=15)
    assert "the cluster is alive" in refused[0]
    again = site.restore("--i-know-quorum-is-alive", "--no-backup")["restore"]
    assert again["fresh_backup"] is None
    assert site.here.ids()[-1] == newest

    site.assert_serves(key="backed up", after="written")
    assert again["cluster_id"] != done["cluster_id"]
    removed = site.here.json("restore", "cleanup", again["plan_id"], "--yes")["removed"]
    assert all(len(paths) == 1 for paths in removed.values())
    site.assert_serves(after="written")


def test_every_host_is_asked_whether_a_restore_would_work(site: Site) -> None:
    def ready(code: int) -> dict[str, Any]:
        flags = ("--ssh-config", str(site.hosts.ssh_config))
        document = site.here.json("check", "restore-readiness", *flags, code=code, **site.path)
        return {line["name"]: line for line in document["checks"]}

    lines = ready(0)
    hosts = {f"readiness.host.{host.address}" for host in site.hosts}
    assert hosts <= lines.keys()
    assert {lines[name]["outcome"] for name in hosts} == {"OK"}
    site.assert_serves(key="written later")

    moved = site.hosts["cp2"]
    moved.run("mv", "/etc/etcdguard/signing.pub.pem", "/etc/etcdguard/signing.away")
    lines = ready(12)
    assert {name for name, line in lines.items() if line["outcome"] == "FAIL"} == {
        f"readiness.host.{moved.address}"
    }
    assert "signing.pub.pem" in lines[f"readiness.host.{moved.address}"]["value"]


def test_a_stale_survivor_is_replaced_with_the_others(site: Site) -> None:
    site.destroy("cp1", "cp2")
    assert site.hosts["cp3"].is_active("etcd.service")

    # Where the fresh backup goes, a repository is missing: that is told, and undoes nothing.
    site.here.settings["repositories"].append({"name": "offsite", "file": {"path": "/no/such/place"}})
    site.here.save()

    partly = site.here.run("restore", "--all", *site.flags, code=3, **site.path)

    done = partly.document["restore"]
    assert done["fresh_backup"] is None
    assert "offsite" in done["fresh_backup_problem"]
    assert "the restore is done, but there is no fresh backup everywhere" in partly.problem[0]
    site.assert_serves(key="backed up")
    assert f"{DATA}.before-{done['plan_id']}" in site.kept(site.hosts["cp3"])


def test_static_pods_and_the_control_plane_come_back(kubernetes: Site) -> None:
    served = kubernetes.cluster.etcdctl.revision()
    before = {host.name: host.processes("kube-apiserver") for host in kubernetes.hosts}
    assert all(before.values())

    done = kubernetes.restore("--i-know-quorum-is-alive")["restore"]

    kubernetes.assert_serves(**{"/registry/key": "backed up"})
    assert done["revision"] > served + 100_000_000
    assert kubernetes.cluster.etcdctl.revision() > done["revision"]
    for host in kubernetes.hosts:
        for name in ("etcd", *CONTROL_PLANE):
            assert host.exists(f"{MANIFESTS}/{name}.yaml")
            assert len(host.processes(name)) == 1
        assert host.processes("kube-apiserver") != before[host.name]


# -- refusals: nothing is stopped ----------------------------------------------------------------------------


def _ssh_config(site: Site, tmp_path: Path, **changes: str) -> str:
    text = site.hosts.ssh_config.read_text()
    for old, new in changes.items():
        key = old.replace("_", " ")
        lines = [f"  {key} {new}" if line.split()[:1] == [key] else line for line in text.splitlines()]
        text = "\n".join(lines) + "\n"
    changed = tmp_path / "ssh_config"
    changed.write_text(text)
    return str(changed)


def test_what_keeps_a_host_away_is_told_before_anything_stops(site: Site, tmp_path: Path) -> None:
    def refused(*flags: str) -> tuple[str, str]:
        done = site.here.run(
            "restore", "--all", *site.flags, "--i-know-quorum-is-alive", *flags, code=15, **site.path
        )
        return done.problem

    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
    kind, key = (tmp_path / "other.pub").read_text().split()[:2]
    known = tmp_path / "known_hosts"
    known.write_text("".join(f"{host.address} {kind} {key}\n" for host in site.hosts))
    empty = tmp_path / "empty"
    empty.touch()
    refusals = {
        "its ssh host key has changed": (
            "--ssh-config",
            _ssh_config(site, tmp_path, UserKnownHostsFile=str(known)),
        ),
        "was not found there": ("--remote-command", "/no/etcdguard"),
        "is not JSON": ("--remote-command", "echo hello"),
    }
    for message, flags in refusals.items():
        error, hint = refused(*flags)
        assert message in error
        assert all(host.address in error for host in site.hosts)
        assert hint
    unknown = refused("--ssh-config", _ssh_config(site, tmp_path, UserKnownHostsFile=str(empty)))
    assert "its ssh host key is not known here" in unknown[0]
    assert (
        "does not let us in"
        in refused("--ssh-config", _ssh_config(site, tmp_path, IdentityFile=str(other)))[0]
    )
    site.hosts["cp2"].kill_sshd()
    try:
        assert f"{site.hosts['cp2'].address}: cannot be reached" in refused()[0]
    finally:
        site.hosts["cp2"].start_sshd()
    assert not [name for host in site.hosts for name in site.kept(host)]
    site.assert_serves(key="written later")
