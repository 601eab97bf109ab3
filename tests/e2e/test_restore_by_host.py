"""One plan, carried from host to host: to three machines that nobody may log in to, by ssh, from another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.restore_site import POD, UNIT, Site, cleaned, make_site
from tests.support.etcd_versions import EtcdPrograms
from tests.support.hosts import Host, HostSet
from tests.support.hosts_etcd import (
    CONTROL_PLANE,
    MANIFESTS,
    STATIC_POD_TLS,
    HostPki,
    deploy_etcd,
    deploy_static_pods,
)

# Many commands in a row, each a start of Python on a host: minutes where the machine is busy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAN = "/root/plan.json"
STATE = "/var/lib/etcdguard/restore"

# A shell, because the process must be killed on the host itself: from its log on, when a phase begins.
_KILL = """
etcdguard --log-format json restore run --plan {plan} --member {member} --identity /dev/stdin --yes {flags} \
    <"$0" >/dev/null 2>/root/log &
until grep -q '"phase": *"{phase}"' /root/log || ! kill -0 $!; do :; done
kill -KILL $! 2>/dev/null
wait $!
"""


@dataclass
class Hosts:
    """The hosts of a site that has been planned for, and on each of them the one plan."""

    site: Site
    plan_id: str
    identity: str

    def on(self, name: str, *flags: str, code: int = 0) -> Any:
        """Run the plan there, for its own member; answers the document, or error and hint."""
        host = self.site.hosts[name]
        command = ("run", "--plan", PLAN, "--member", name, "--identity", "/dev/stdin", "--yes", *flags)
        return self._etcdguard(host, *command, code=code)

    def rollback(self, name: str, *flags: str, code: int = 0) -> Any:
        """Put that host back."""
        return self._etcdguard(
            self.site.hosts[name], "rollback", self.plan_id, "--yes", *flags, code=code, report=False
        )

    def status(self, name: str) -> Any:
        """What that host knows."""
        return self._etcdguard(self.site.hosts[name], "status", self.plan_id)

    def cleanup(self, name: str) -> Any:
        """Delete what that host has kept."""
        return self._etcdguard(self.site.hosts[name], "cleanup", self.plan_id, "--yes")

    def killed_at(self, name: str, phase: str) -> None:
        """SIGKILL the restore there when it begins a phase."""
        host = self.site.hosts[name]
        host.write("/root/identity", self.identity, mode=0o600)
        script = _KILL.format(plan=PLAN, member=name, phase=phase, flags="--i-know-quorum-is-alive")
        host.run("sh", "-c", script, "/root/identity", check=False)

    def _etcdguard(self, host: Host, *command: str, code: int = 0, report: bool = True) -> Any:
        output = ("-o", "json") if report else ()
        done = host.run(
            "etcdguard", "--log-format", "json", "restore", *command, *output, text=self.identity, check=False
        )
        assert done.returncode == code, f"{host.name}: {done.stdout}{done.stderr}"
        if code:
            return [line for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
        return json.loads(done.stdout) if report else done.stderr


def _planned(site: Site) -> Hosts:
    plan_file = site.here.folder / "plan.json"
    site.here.run("restore", "plan", "-o", plan_file, **site.path)
    for host in site.hosts:
        host.write(PLAN, plan_file.read_bytes())
        host.kill_sshd()
        assert not list(host.path("/root/.ssh").glob("id_*"))
    plan_id = json.loads(plan_file.read_text())["plan"]["id"]
    return Hosts(site, plan_id, site.here.identity_file.read_text())


@pytest.fixture
def folder(three_hosts: HostSet, host_share: Path) -> Iterator[Path]:
    """Where the installation goes; afterwards the hosts are clean, and can be logged in to again."""
    with cleaned(three_hosts.hosts, host_share / "etcdguard") as folder:
        yield folder
        for host in three_hosts:
            host.run("rm", "-f", PLAN, "/root/identity", "/root/log")
            host.start_sshd()


@pytest.fixture
def hosts(three_hosts: HostSet, host_pki: HostPki, folder: Path, etcd_binaries: EtcdPrograms) -> Hosts:
    cluster = deploy_etcd(three_hosts.hosts, host_pki, etcd_binaries)
    site = make_site(three_hosts, cluster, folder, UNIT)
    site.put("key", "backed up")
    site.here.backup()
    site.put("key", "written later")
    return _planned(site)


@pytest.fixture
def kubernetes(three_hosts: HostSet, host_pki: HostPki, folder: Path, etcd_binaries: EtcdPrograms) -> Hosts:
    cluster = deploy_static_pods(three_hosts.hosts, host_pki, etcd_binaries)
    site = make_site(three_hosts, cluster, folder, POD, STATIC_POD_TLS)
    site.put("/registry/key", "backed up")
    site.here.backup()
    site.put("/registry/key", "written later")
    return _planned(site)


def test_two_rounds_on_hosts_that_do_not_see_each_other(hosts: Hosts) -> None:
    """Two members destroyed, one stale survivor, and a reboot while a host waits for the others."""
    site = hosts.site
    site.destroy("cp1", "cp2")
    assert site.hosts["cp3"].is_active("etcd.service")

    first = hosts.on("cp1")
    assert first["restore"]["phase"] == "held"
    assert any(f"restore run --plan {PLAN} --member cp3" in step for step in first["next_steps"])
    refused = hosts.on("cp1", "--start", code=15)
    assert "error: cp3 still runs in another cluster" in refused[0]
    assert site.hosts["cp2"].address not in refused[1], "that one does not answer"
    for name in ("cp2", "cp3"):
        assert hosts.on(name)["restore"]["phase"] == "held"
    site.hosts["cp2"].reboot()
    site.hosts["cp2"].kill_sshd()
    for host in site.hosts:
        assert host.systemctl("start", "etcd.service", check=False).returncode != 0, "it is held down"
        assert host.processes("etcd") == []
    assert hosts.status("cp2")["hosts"]["cp2"] == {"phase": "swapped", "problem": None}

    for name in ("cp1", "cp2"):
        assert hosts.on(name, "--start", "--no-wait")["restore"]["phase"] == "started"
    last = hosts.on("cp3", "--start")["restore"]
    assert last["phase"] == "open"
    assert set(last["proof"]) >= {"members", "leader", "revision", "hash", "canary"}
    for name in ("cp1", "cp2"):
        assert hosts.on(name, "--start")["restore"]["phase"] == "open"

    site.assert_serves(key="backed up")
    events = [
        json.loads(path.read_text()) for path in site.here.repository.glob("prod/events/*-restore-*.json")
    ]
    assert sorted(event["host"] for event in events) == ["cp1", "cp2", "cp3"]
    assert {event["plan_id"] for event in events} == {hosts.plan_id}
    assert "proven and in service" in hosts.rollback("cp3", code=15)[0]
    assert "has been carried out here" in hosts.on("cp1", code=15)[0]
    for host in site.hosts:
        assert host.run("stat", "-c", "%U %a", "/var/lib/etcd").stdout == "etcd 700\n"
        assert not host.run("sh", "-c", "grep -rs AGE-SECRET /var/lib/etcdguard", check=False).stdout
    assert hosts.cleanup("cp1")["removed"] == {"cp1": [f"/var/lib/etcd.before-{hosts.plan_id}"]}
    assert [len(site.kept(host)) for host in site.hosts] == [0, 1, 1]


def test_a_killed_restore_goes_on_and_every_host_goes_back(hosts: Hosts) -> None:
    """The cluster is alive throughout: one host after the other leaves it, and comes back."""
    site = hosts.site
    for phase in ("stage", "quiesce", "swap"):
        hosts.killed_at("cp1", phase)
        if phase == "quiesce":
            hosts.on("cp1", "--i-know-quorum-is-alive")
            assert site.hosts["cp1"].processes("etcd") == []
        hosts.rollback("cp1")
        assert site.kept(site.hosts["cp1"]) == []
        site.assert_serves(key="written later")

    for name in ("cp1", "cp2", "cp3"):
        hosts.on(name, "--i-know-quorum-is-alive")
    for name in ("cp1", "cp2"):
        assert "EVERY other host" in hosts.rollback(name)
    # The old cluster serves again. What was forgotten stays out of it, and held.
    refused = hosts.on("cp3", "--start", "--i-know-quorum-is-alive", code=15)
    assert "cp1, cp2 still runs in another cluster" in refused[0]
    seen = hosts.status("cp3")["hosts"]
    assert "cp1 runs in the old cluster" in seen[site.hosts["cp1"].address]["problem"]
    hosts.rollback("cp3")
    site.assert_serves(key="written later")

    # And when two new members serve already, no old one is started beside them.
    for name in ("cp1", "cp2", "cp3"):
        hosts.on(name, "--i-know-quorum-is-alive")
    for name in ("cp1", "cp2"):
        hosts.on(name, "--start", "--no-wait")
    site.cluster.wait_healthy(hosts=[site.hosts["cp1"], site.hosts["cp2"]])
    assert "the new cluster serves at cp1, cp2" in hosts.rollback("cp3", code=15)[0]
    stuck = hosts.rollback("cp3", "--i-know-quorum-is-alive", code=3)
    assert "because cp1, cp2 still runs in the new cluster" in stuck[0]
    assert "because cp2 still runs" in hosts.rollback("cp1", "--i-know-quorum-is-alive", code=3)[0]
    for name in ("cp2", "cp1", "cp3"):
        hosts.rollback(name)

    site.assert_serves(key="written later")
    assert "spends its token" in hosts.on("cp1", "--i-know-quorum-is-alive", code=15)[0]
    for host in site.hosts:
        assert site.kept(host) == []
        assert host.run("sh", "-c", "ls -d /etc/systemd/system/*.service.d", check=False).stdout == ""


def test_static_pods_and_the_control_plane_come_back_host_by_host(kubernetes: Hosts) -> None:
    site = kubernetes.site
    for host in site.hosts:
        kubernetes.on(host.name, "--i-know-quorum-is-alive")
        assert not [name for name in ("etcd", *CONTROL_PLANE) if host.processes(name)]
    for name in ("cp1", "cp2"):
        kubernetes.on(name, "--start", "--no-wait")
        assert site.hosts[name].processes("kube-apiserver") == [], "not before the proof"
    for name in ("cp3", "cp1", "cp2"):
        assert kubernetes.on(name, "--start")["restore"]["phase"] == "open"

    site.assert_serves(**{"/registry/key": "backed up"})
    for host in site.hosts:
        for name in ("etcd", *CONTROL_PLANE):
            assert host.exists(f"{MANIFESTS}/{name}.yaml")
        assert len(host.processes("kube-apiserver")) == 1
