"""The documents for systemd and kubeadm hosts, followed to the letter on three hosts.

Nothing is replaced but the addresses and PLAN. What happens to the cluster between the
blocks is here; what is done about it stands in the document.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.restore_site import cleaned
from tests.support.documents import Block, sections
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_install import install_on, uninstall_from
from tests.support.hosts import Host, HostSet
from tests.support.hosts_etcd import CONTROL_PLANE, HostCluster, HostPki, deploy_etcd, deploy_static_pods

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_CONFIG = "/etc/etcdguard/config.yaml"
_OVERRIDE = "/etc/systemd/system/etcdguard-backup.service.d/override.conf"
_STATE = "/var/lib/etcdguard/restore"
_IN_ROOT = ("/root/.ssh/id_ed25519", "/root/.ssh/known_hosts", "/root/identity.txt")
_TIMEOUT = 600.0

_WHERE = re.compile(r"# on (cp\d|every host)(, at about the same time)?(:.*)?\n")


class Reader:
    """Somebody who follows a document, with ``addresses`` of their own instead of the document's."""

    def __init__(self, document: str, hosts: HostSet, addresses: Mapping[str, str]) -> None:
        self._sections = sections(document)
        self._hosts = hosts
        self._addresses = dict(addresses)
        self.unread = {
            (title, number) for title, found in self._sections.items() for number in range(len(found))
        }

    def follow(self, title: str, *numbers: int, plan: str = "PLAN") -> None:
        """Do what the blocks of that section say, in order: all of them, or those of these numbers."""
        blocks = self._sections[title]
        for number in numbers or range(len(blocks)):
            self._do(blocks[number], plan)
            self.unread.discard((title, number))

    def _do(self, block: Block, plan: str) -> None:
        content = block.content.replace("PLAN", plan)
        for theirs, ours in self._addresses.items():
            content = content.replace(theirs, ours)
        if block.language == "yaml":
            self._append("cp1", _CONFIG, content)
        elif block.language == "ini":
            self._append("cp1", _OVERRIDE, content)
        else:
            assert block.language == "sh"
            self._run(content)

    def _append(self, name: str, path: str, content: str) -> None:
        host = self._hosts[name]
        before = host.read(path).decode() if host.exists(path) else ""
        host.write(path, before + content, mode=0o600)

    def _run(self, content: str) -> None:
        where = _WHERE.match(content)
        assert where, f"a block does not say where it is to be run: {content}"
        names = [host.name for host in self._hosts] if where[1] == "every host" else [where[1]]
        # Commands ask before they change something: for the cluster's name, or for a yes.
        answer = "y\n" if re.search("rollback|cleanup", content) else "prod\n"
        with ThreadPoolExecutor(len(names) if where[2] else 1) as pool:
            for failure in pool.map(lambda name: self._typed(name, content, answer), names):
                assert failure is None, failure

    def _typed(self, name: str, content: str, answer: str) -> str | None:
        """At a terminal of that host, as a careful reader: the first command that fails is the last."""
        argv = ["ssh", "-tt", "-F", str(self._hosts.ssh_config), name, f"sh -ec {shlex.quote(content)}"]
        done = subprocess.run(
            argv, input=answer, capture_output=True, text=True, timeout=_TIMEOUT, check=False
        )
        return None if done.returncode == 0 else f"on {name}: {content}\n{done.stdout}{done.stderr}"


@dataclass(frozen=True)
class Kind:
    """A document, and what it is about."""

    document: str
    deploy: Callable[[Sequence[Host], HostPki, EtcdPrograms], HostCluster]
    runs: tuple[str, ...]
    """What runs once on every host when all is well."""


@dataclass(frozen=True)
class Tried:
    """The cluster that the document is about."""

    kind: Kind
    hosts: HostSet
    cluster: HostCluster

    def lose(self, *names: str) -> None:
        """Zeros over the database of the members there: whoever starts etcd does so in vain."""
        for host in (self.hosts[name] for name in names):
            host.kill_processes("etcd")
            host.run(
                "dd", "if=/dev/zero", "of=/var/lib/etcd/member/snap/db", "bs=1M", "count=1", "conv=notrunc"
            )
            host.kill_processes("etcd")  # it may have been started again in between

    def put(self, value: str) -> None:
        """Write the key that tells what was restored."""
        self.cluster.etcdctl.run("put", "/registry/key", value)

    def assert_serves(self, value: str) -> None:
        """Three voters, equal hashes, this value, and it takes writes; what uses etcd runs."""
        self.cluster.wait_healthy()
        etcdctl = self.cluster.etcdctl
        members = etcdctl.json("member", "list")["members"]
        assert [member.get("isLearner", False) for member in members] == [False] * 3
        assert len(set(etcdctl.common_hashes().values())) == 1
        assert etcdctl.get("/registry/key") == value
        etcdctl.run("put", "/registry/after", "written")
        for host in self.hosts:
            assert {name: len(host.processes(name)) for name in self.kind.runs} == dict.fromkeys(
                self.kind.runs, 1
            )

    def kept(self) -> list[str]:
        """The directories that lie beside a data directory."""
        return [path for host in self.hosts for path in _listed(host, "/var/lib/etcd.*")]

    def plan(self) -> str:
        """The id that the newest restore has printed."""
        return max(Path(path).name for host in self.hosts for path in _listed(host, f"{_STATE}/2*"))


def _listed(host: Host, pattern: str) -> list[str]:
    return host.run("sh", "-c", f"ls -d {pattern} 2>/dev/null", check=False).stdout.split()


@pytest.fixture
def share(three_hosts: HostSet, host_share: Path, installed: Path) -> Iterator[Path]:
    """What all hosts mount, where the documents say; afterwards they are as they were."""
    folder = host_share / "docs"
    mounts = {inside: folder / inside.strip("/") for inside in ("/srv/etcd-backups", "/media/safe")}
    for path in mounts.values():
        path.mkdir(parents=True)
    with cleaned(three_hosts.hosts, folder):
        for host in three_hosts:
            for inside, path in mounts.items():
                host.run("mkdir", "-p", inside)
                host.run("mount", "--bind", str(path), inside)
        install_on(three_hosts["cp1"], installed)
        yield folder
        cp1 = three_hosts["cp1"]
        cp1.systemctl("disable", "--quiet", "--now", "etcdguard-backup.timer")
        cp1.systemctl("stop", "etcdguard-backup.service")
        uninstall_from(cp1, installed)
        cp1.run("rm", "-rf", *_IN_ROOT)
        for host in three_hosts:
            host.run("umount", *mounts)
    for host in three_hosts:
        host.systemctl("daemon-reload")


@pytest.mark.parametrize(
    "kind",
    [
        Kind("systemd-etcd.md", deploy_etcd, ("etcd",)),
        Kind("kubeadm.md", deploy_static_pods, ("etcd", *CONTROL_PLANE)),
    ],
    ids=lambda kind: kind.document,
)
def test_the_document_as_written(
    kind: Kind, three_hosts: HostSet, share: Path, host_pki: HostPki, etcd_binaries: EtcdPrograms
) -> None:
    cluster = kind.deploy(three_hosts.hosts, host_pki, etcd_binaries)
    cp1 = three_hosts["cp1"]
    cp1.copy_in(three_hosts.folder / "id_ed25519", "/root/.ssh/id_ed25519")
    cp1.copy_in(three_hosts.known_hosts, "/root/.ssh/known_hosts")
    addresses = {f"10.0.0.{number}": host.address for number, host in enumerate(three_hosts, 1)}
    reader = Reader(kind.document, three_hosts, addresses)
    tried = Tried(kind, three_hosts, cluster)

    reader.follow("Set up")
    tried.put("backed up")
    reader.follow("Back up")
    assert cp1.is_active("etcdguard-backup.timer")
    cp1.systemctl("stop", "etcdguard-backup.timer")  # or it may back up what is written next
    tried.put("written later")

    tried.lose("cp2")
    reader.follow("One member is lost")
    tried.assert_serves("written later")
    aside = tried.kept()
    assert len(aside) == 1

    tried.lose("cp1", "cp2", "cp3")
    reader.follow("The cluster is lost", 0)
    tried.assert_serves("backed up")
    reader.follow("The cluster is lost", 1, plan=tried.plan())
    assert tried.kept() == aside

    tried.lose("cp1", "cp2", "cp3")
    reader.follow("Without ssh between hosts", 0, 1)
    assert len(tried.kept()) == len(aside) + 3
    reader.follow("Going back", plan=tried.plan())
    assert tried.kept() == aside
    (share / "srv/etcd-backups/plan.json").unlink()
    reader.follow("Without ssh between hosts")
    tried.assert_serves("backed up")
    assert not reader.unread
    if kind.document == "kubeadm.md":
        _follow_the_runbook(tried, addresses)


def _follow_the_runbook(tried: Tried, addresses: Mapping[str, str]) -> None:
    """Its certificates are kubeadm's."""
    reader = Reader("runbook-disaster.md", tried.hosts, addresses)
    tried.hosts["cp1"].run("cp", "/media/safe/identity.txt", "/root/identity.txt")
    reader.follow("Look: nothing changes")
    tried.put("written later")
    tried.lose("cp1", "cp2", "cp3")
    reader.follow("Restore")
    tried.assert_serves("backed up")
    assert not reader.unread
