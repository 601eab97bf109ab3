"""What is refused before anything stops on any host: one error, one hint, the documented code."""

from __future__ import annotations

import copy
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.restore_site import UNIT, Site, cleaned, make_site
from tests.e2e.stopping import Orchestrator
from tests.support.etcd_versions import EtcdPrograms
from tests.support.hosts import HostSet
from tests.support.hosts_etcd import HostPki, deploy_etcd

pytestmark = pytest.mark.slow

_ALL = ("restore", "--all")
_OTHER_VERSION = (
    "-c 'import etcdguard; etcdguard.__version__ = \"9.9.9\"; from etcdguard.cli.main import main; main()'"
)


class Grounds:
    """One site for all refusals: they change nothing, and what a test arranges is taken back."""

    def __init__(self, hosts: HostSet, folder: Path) -> None:
        self.hosts = hosts
        self._folder = folder
        self._site: Site | None = None

    def site(self, pki: HostPki, programs: EtcdPrograms) -> Site:
        if self._site is None:
            made = make_site(self.hosts, deploy_etcd(self.hosts.hosts, pki, programs), self._folder, UNIT)
            made.put("key", "backed up")
            made.here.backup()
            self._site = made
        return self._site


@pytest.fixture(scope="module")
def grounds(three_hosts: HostSet, host_share: Path) -> Iterator[Grounds]:
    with cleaned(three_hosts.hosts, host_share / "refusals") as folder:
        folder.mkdir()
        yield Grounds(three_hosts, folder)


@pytest.fixture
def site(grounds: Grounds, host_pki: HostPki, etcd_binaries: EtcdPrograms) -> Iterator[Site]:
    """A site on which nothing may stop, and no directory may change."""
    site = grounds.site(host_pki, etcd_binaries)
    before = site.sights()
    yield site
    assert site.sights() == before
    assert not [name for host in site.hosts for name in site.kept(host)]
    site.assert_serves(key="backed up")


# -- how a host is reached -----------------------------------------------------------------------------------


@contextmanager
def _ssh_config(site: Site, key: str, value: Path) -> Iterator[list[str]]:
    lines = site.hosts.ssh_config.read_text().splitlines()
    changed = value.with_suffix(".ssh_config")
    changed.write_text(
        "".join(f"  {key} {value}\n" if line.split()[0] == key else f"{line}\n" for line in lines)
    )
    yield [*_ALL, "--ssh-config", str(changed)]


def _key(folder: Path) -> Path:
    file = folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file], check=True)
    return file


def _changed_key(site: Site, folder: Path) -> AbstractContextManager[list[str]]:
    kind, key = _key(folder).with_suffix(".pub").read_text().split()[:2]
    known = folder / "known"
    known.write_text("".join(f"{host.address} {kind} {key}\n" for host in site.hosts))
    return _ssh_config(site, "UserKnownHostsFile", known)


def _unknown_key(site: Site, folder: Path) -> AbstractContextManager[list[str]]:
    (folder / "nobody").touch()
    return _ssh_config(site, "UserKnownHostsFile", folder / "nobody")


def _no_login(site: Site, folder: Path) -> AbstractContextManager[list[str]]:
    return _ssh_config(site, "IdentityFile", _key(folder))


@contextmanager
def _unreachable(site: Site, folder: Path) -> Iterator[list[str]]:
    site.hosts["cp2"].kill_sshd()
    try:
        yield list(_ALL)
    finally:
        site.hosts["cp2"].start_sshd()


@contextmanager
def _other_version(site: Site, folder: Path) -> Iterator[list[str]]:
    host, program = site.hosts["cp2"], "/usr/local/bin/etcdguard"
    content = host.read(program)
    assert b"-m etcdguard" in content
    host.write(program, content.replace(b"-m etcdguard", _OTHER_VERSION.encode()), mode=0o755)
    try:
        yield list(_ALL)
    finally:
        host.write(program, content, mode=0o755)


def _flags(*flags: str) -> Callable[[Site, Path], AbstractContextManager[list[str]]]:
    @contextmanager
    def arranged(site: Site, folder: Path) -> Iterator[list[str]]:
        yield [*_ALL, *flags]

    return arranged


# -- what is to be restored ----------------------------------------------------------------------------------


@contextmanager
def _members(site: Site, change: Callable[[list[dict[str, Any]]], object]) -> Iterator[list[str]]:
    settings = copy.deepcopy(site.here.settings)
    change(settings["members"])
    with site.here.configured(settings):
        yield list(_ALL)


def _one_peer_url(site: Site, folder: Path) -> AbstractContextManager[list[str]]:
    return _members(site, lambda members: members[1].update(peer_urls=[*members[0]["peer_urls"]]))


def _missing(site: Site, folder: Path) -> AbstractContextManager[list[str]]:
    return _members(site, lambda members: members.pop())


def _wrong_owner(site: Site, folder: Path) -> AbstractContextManager[list[str]]:
    return _members(site, lambda members: members[1].update(service={**UNIT, "user": "no-such-user"}))


@contextmanager
def _not_etcds(site: Site, folder: Path) -> Iterator[list[str]]:
    site.hosts["cp2"].write("/var/lib/letters/letter", "x")
    try:
        yield [*_ALL, "--data-dir", "cp2=/var/lib/letters"]
    finally:
        site.hosts["cp2"].run("rm", "-r", "/var/lib/letters")


@contextmanager
def _edited(site: Site, folder: Path) -> Iterator[list[str]]:
    plan = folder / "plan.json"
    site.here.run("restore", "plan", "-o", plan, **site.path)
    plan.write_text(plan.read_text().replace("/var/lib/etcd", "/var/lib/etce", 1))
    yield ["restore", "run", "--plan", str(plan), "--all"]


@dataclass(frozen=True)
class Refusal:
    arranged: Callable[[Site, Path], AbstractContextManager[list[str]]]
    code: int
    message: str
    hint: str
    hosts: tuple[str, ...] = ()
    """Those that the message names, all others not."""


_EVERY = ("cp1", "cp2", "cp3")

REFUSALS = {
    "unreachable host": Refusal(_unreachable, 15, "cannot be reached", "--ssh-config", ("cp2",)),
    "host key changed": Refusal(_changed_key, 15, "ssh host key has changed", "ssh-keygen -R", _EVERY),
    "host key unknown": Refusal(_unknown_key, 15, "not known here", "compare the fingerprint", _EVERY),
    "no login": Refusal(_no_login, 15, "does not let us in", "agent", _EVERY),
    "no etcdguard there": Refusal(
        _flags("--remote-command", "/no/etcdguard"), 15, "was not found there", "--remote-command", _EVERY
    ),
    "no etcdguard's answer": Refusal(
        _flags("--remote-command", "echo hello"), 15, "is not JSON", "profile", _EVERY
    ),
    "another version there": Refusal(
        _other_version, 15, "etcdguard 9.9.9 is installed here", "the same version", ("cp2",)
    ),
    "one peer URL twice": Refusal(_one_peer_url, 64, "appears twice", "one member"),
    "member missing": Refusal(_missing, 15, "has cp3 too", "--leave-out NAME"),
    "wrong owner": Refusal(_wrong_owner, 15, "no-such-user", "members[].service", ("cp2",)),
    "target in use": Refusal(_not_etcds, 15, "not etcd's", "move the directory away", ("cp2",)),
    "plan edited": Refusal(_edited, 15, "was changed", "make a new one"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_comes_before_anything_stops(site: Site, tmp_path: Path, case: str) -> None:
    refusal = REFUSALS[case]
    with refusal.arranged(site, tmp_path) as arguments:
        done = site.here.run(
            *_with_flags(site, arguments), "--i-know-quorum-is-alive", code=refusal.code, **site.path
        )

    error, hint = done.problem
    assert refusal.message in error
    assert refusal.hint in hint
    assert done.out == ""
    named = {host.name for host in site.hosts if f"{host.address}: " in error or f"{host.address}, " in error}
    assert named == set(refusal.hosts)


def test_a_quorum_that_serves_is_not_replaced(site: Site) -> None:
    assert "the cluster is alive" in site.restore(code=15)[0]


def test_of_two_restores_at_once_the_second_is_refused(site: Site, tmp_path: Path) -> None:
    arguments = [*_with_flags(site, list(_ALL)), "--i-know-quorum-is-alive"]
    with Orchestrator(site, ("quiesce",), arguments) as first:
        assert first.stands(), first.ended().err
        here = site.here.run(*arguments, code=11, **site.path)
        settings = {**site.here.settings, "restore": {"state_dir": str(tmp_path / "state")}}
        with site.here.configured(settings):
            elsewhere = site.here.run(*arguments, code=15, **site.path)
        first.send(signal.SIGINT)
        first.go_on()
        done = first.ended()
    assert "at work already" in here.problem[0]
    assert f"restore {first.plan} has not ended on this machine" in elsewhere.problem[0]
    assert f"etcdguard restore rollback {first.plan}" in elsewhere.problem[1]
    assert done.code == 130
    assert "everything was put back" in done.err


def _with_flags(site: Site, arguments: list[str]) -> list[str]:
    if "--ssh-config" in arguments:
        return [*arguments, "--yes", "-o", "json"]
    return [*arguments, *site.flags]
