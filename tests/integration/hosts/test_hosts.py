"""The test hosts themselves: separate machines, and nothing of them left afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import etcdguard
from tests.support.hosts import Disk, Host, HostSet, MachineFailed
from tests.support.hosts_machine import cgroup_parents
from tests.support.waiting import PLENTY, eventually

_OWNER = """\
import sys, time
from tests.support.hosts import HostSet
with HostSet(2) as hosts:
    print(hosts.folder, hosts.unique, hosts.bridge, *(host.pid for host in hosts), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def host(three_hosts: HostSet) -> Iterator[Host]:
    """One of the three, running again afterwards."""
    yield three_hosts["cp2"]
    if not three_hosts["cp2"].running:
        three_hosts["cp2"].power_on()
    three_hosts["cp2"].start_sshd()


def test_each_is_reached_over_ssh_and_runs_systemd(three_hosts: HostSet) -> None:
    seen = []
    for host in three_hosts:
        done = three_hosts.ssh(host.name, "hostname; cat /proc/1/comm; systemctl is-system-running")
        assert (done.returncode, done.stderr) == (0, "")
        seen.append(done.stdout.split())
    assert seen == [[name, "systemd", "running"] for name in ("cp1", "cp2", "cp3")]


def test_etcdguard_runs_there(three_hosts: HostSet) -> None:
    done = three_hosts.ssh("cp3", "etcdguard", "--version")
    assert (done.returncode, done.stdout) == (0, f"etcdguard {etcdguard.__version__}\n")
    imports = "import boto3, grpc, cryptography.fernet, sys; print(sys.version)"
    there = three_hosts["cp3"].run(f"{sys.prefix}/bin/python", "-c", imports)
    assert there.stdout.strip() == sys.version


def test_hosts_share_no_files_but_the_shared_folder(three_hosts: HostSet, host_share: Path) -> None:
    three_hosts["cp1"].write("/etc/only-here", "cp1", mode=0o640, owner="etcd")
    three_hosts["cp1"].write(str(host_share / "everywhere"), "all")
    assert three_hosts["cp1"].run("stat", "-c", "%a %U", "/etc/only-here").stdout == "640 etcd\n"
    assert not three_hosts["cp2"].exists("/etc/only-here")
    assert three_hosts["cp2"].read(str(host_share / "everywhere")) == b"all"
    assert not Path("/etc/only-here").exists()


def test_files_are_copied_in_and_out(three_hosts: HostSet, tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("content")
    three_hosts["cp1"].copy_in(tmp_path / "a", "/srv/a")
    three_hosts["cp1"].copy_out("/srv/a/b/file", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "content"


def test_hosts_reach_each_other_and_this_machine(three_hosts: HostSet) -> None:
    connect = "import socket, sys; print(socket.create_connection((sys.argv[1], 22), 60).recv(4))"
    there = three_hosts["cp1"].run("python3", "-c", connect, "cp3")
    assert there.stdout == "b'SSH-'\n"
    shown = three_hosts.ssh("cp1", "echo $SSH_CONNECTION").stdout.split()
    assert shown[0] == three_hosts.gateway
    assert shown[2] == three_hosts["cp1"].address


def test_a_wrong_host_key_is_refused(three_hosts: HostSet, tmp_path: Path) -> None:
    lines = three_hosts.known_hosts.read_text().splitlines()
    keys = [line.split()[2] for line in lines]
    assert len(set(keys)) == 3
    other = tmp_path / "known_hosts"
    other.write_text(f"{three_hosts['cp1'].address} ssh-ed25519 {keys[1]}\n")
    done = subprocess.run(
        ["ssh", "-F", str(three_hosts.ssh_config), "-o", f"UserKnownHostsFile={other}", "cp1", "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr


@pytest.mark.parametrize("hard", [False, True], ids=["shutdown", "power-cut"])
def test_a_reboot_is_a_new_systemd_with_the_old_files(three_hosts: HostSet, host: Host, hard: bool) -> None:
    before = host.pid
    host.write("/var/lib/kept", "kept")
    host.write("/run/lost", "lost")
    host.reboot(hard=hard)
    host.wait_booted()
    assert host.pid != before
    assert host.read("/var/lib/kept") == b"kept"
    assert not host.exists("/run/lost")
    assert three_hosts.ssh(host.name, "true").returncode == 0


def test_a_reboot_from_inside_comes_back(three_hosts: HostSet, host: Host) -> None:
    before = host.pid
    three_hosts.ssh(host.name, "systemctl reboot")
    eventually(lambda: host.running and _pid(host) not in (None, before), "it boots again")
    host.wait_booted()


def test_a_host_that_is_off_is_not_reached(three_hosts: HostSet, host: Host) -> None:
    host.power_off()
    assert not host.running
    assert three_hosts.ssh(host.name, "true", options=["-o", "ConnectTimeout=5"]).returncode == 255
    with pytest.raises(MachineFailed, match="does not run"):
        host.run("true")
    host.power_on()
    host.wait_booted()
    assert three_hosts.ssh(host.name, "true").returncode == 0


def test_killing_sshd_ends_sessions_and_lasts(three_hosts: HostSet, host: Host) -> None:
    session = subprocess.Popen(
        ["ssh", "-F", str(three_hosts.ssh_config), host.name, "echo started; sleep 60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert session.stdout is not None
    assert session.stdout.readline() == b"started\n"
    host.kill_sshd()
    with session:
        assert session.wait(PLENTY) == 255
    assert host.processes("sshd") == []
    assert three_hosts.ssh(host.name, "true").returncode == 255
    host.start_sshd()
    assert three_hosts.ssh(host.name, "true").returncode == 0


def test_a_disk_of_its_own_fills_up_and_survives_a_power_cut(hosts_available: None) -> None:
    with HostSet(1, disk=Disk("/var/lib/etcd", 64)) as hosts:
        host = hosts["cp1"]
        assert host.path("/var/lib/etcd").stat().st_dev != host.path("/var/lib").stat().st_dev
        host.write("/var/lib/etcd/kept", "kept")
        host.fill_disk()
        full = host.run("dd", "if=/dev/zero", "of=/var/lib/etcd/more", "bs=1M", "count=1", check=False)
        assert "No space left on device" in full.stderr
        host.free_disk()
        host.reboot(hard=True)
        assert host.read("/var/lib/etcd/kept") == b"kept"


def test_only_a_disk_of_its_own_is_filled(three_hosts: HostSet) -> None:
    with pytest.raises(AssertionError, match="no disk of its own"):
        three_hosts["cp1"].fill_disk()


def test_nothing_is_left_after_closing(hosts_available: None, tmp_path: Path) -> None:
    with HostSet(2, disk=Disk("/data", 32), shared=[tmp_path]) as hosts:
        (tmp_path / "kept").touch()
        pids = [host.pid for host in hosts]
        during = _traces(hosts.folder, hosts.unique, hosts.bridge)
    assert {trace.split()[0] for trace in during} == {"link", "loop", "cgroup", "process"}
    assert (tmp_path / "kept").exists()
    eventually(lambda: not _left(hosts.folder, hosts.unique, hosts.bridge, pids), "all is gone")


def test_nothing_is_left_when_a_test_fails(hosts_available: None) -> None:
    hosts = HostSet(1)
    with pytest.raises(ZeroDivisionError):
        _fail_with(hosts)
    eventually(lambda: not _left(hosts.folder, hosts.unique, hosts.bridge, []), "all is gone")


def test_nothing_is_left_when_the_owner_is_killed(hosts_available: None) -> None:
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder, unique, bridge, *pids = owner.stdout.readline().split()
    owner.send_signal(signal.SIGKILL)
    with owner:
        owner.wait()
    eventually(lambda: not _left(Path(folder), unique, bridge, [*map(int, pids)]), "all is gone")


def _fail_with(hosts: HostSet) -> None:
    with hosts:
        raise ZeroDivisionError


def _left(folder: Path, unique: str, bridge: str, pids: list[int]) -> set[str]:
    found = _traces(folder, unique, bridge)
    found |= {f"systemd {pid}" for pid in pids if Path(f"/proc/{pid}").exists()}
    return found | ({f"folder {folder}"} if folder.exists() else set())


def _traces(folder: Path, unique: str, bridge: str) -> set[str]:
    """Everything on this machine that such a set of hosts could leave behind, beside its folder."""
    links = {
        f"link {link.name}"
        for link in Path("/sys/class/net").iterdir()
        if unique in link.name or link.name == bridge
    }
    mounts = {
        f"mount {line}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if str(folder) in line
    }
    loops = {
        f"loop {file}"
        for file in Path("/sys/block").glob("loop*/loop/backing_file")
        if str(folder) in file.read_text()
    }
    groups = {f"cgroup {parent / unique}" for parent in cgroup_parents() if (parent / unique).exists()}
    processes = {
        f"process {process.name}"
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and str(folder) in _command_line(process.name)
    }
    return links | mounts | loops | groups | processes


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _pid(host: Host) -> int | None:
    try:
        return host.pid
    except MachineFailed:
        return None  # between two boots
