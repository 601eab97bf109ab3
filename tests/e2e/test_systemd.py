"""``make install``, and the installed units under a real systemd, as docs/install.md says."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.etcd_versions import default_programs
from tests.support.fixtures_hosts import watched
from tests.support.fixtures_install import files_of, install_on, make_into, run_beside
from tests.support.hosts import Host, HostSet
from tests.support.hosts_etcd import SYSTEMD_TLS, HostPki, deploy_etcd
from tests.support.s3_servers import S3Server, make_bucket
from tests.support.tcp_proxy import TcpProxy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # what is installed may have to be downloaded
    pytest.mark.xdist_group("hosts"),  # one worker: they share one installation
]

_CHECKOUT = Path(__file__).parents[2]
_PYTHON = "/usr/bin/python3"  # the distribution's, which the host has as well
_CREDENTIALS = "/etc/etcdguard/credentials"
_BACKUP = "etcdguard-backup.service"
_DEADLINE = 120.0


@pytest.fixture(scope="module")
def host(hosts_available: None, installed: Path, host_pki: HostPki) -> Iterator[Host]:
    """A host with etcd over mutual TLS, and etcdguard installed and set up for it, but not yet started."""
    with HostSet(1) as hosts, watched(hosts):
        (host,) = hosts
        deploy_etcd([host], host_pki, default_programs())
        install_on(host, installed)
        host.run("rm", "/usr/local/bin/etcdguard")  # that of the checkout, which every host has
        _set_up(host)
        yield host


def _set_up(host: Host) -> None:
    host.run("systemd-sysusers")
    tls = SYSTEMD_TLS
    connection = [f"--cacert={tls.ca}", f"--cert={tls.client_cert}", f"--key={tls.client_key}"]
    host.run("etcdguard", "init", "--cluster-name=prod", "--endpoints=https://127.0.0.1:2379", *connection)
    # A slot every few seconds, so that a test need not wait for one.
    host.run("sed", "-i", "s/schedule: 1h/schedule: 5s/", "/etc/etcdguard/config.yaml")
    host.run("systemd-tmpfiles", "--create")
    host.systemctl("daemon-reload")
    for name, target in (
        ("cluster.cacert", str(tls.ca)),
        ("cluster.cert", str(tls.client_cert)),
        ("cluster.key", str(tls.client_key)),
        ("signing.key_file", "/etc/etcdguard/signing.key.pem"),
    ):
        host.run("ln", "-s", target, f"{_CREDENTIALS}/{name}")


def _backups(host: Host) -> list[Any]:
    backups: list[Any] = json.loads(host.run("etcdguard", "list", "-o", "json").stdout)["backups"]
    return backups


def _show(host: Host, unit: str, name: str) -> str:
    return host.systemctl("show", "--value", f"--property={name}", unit).stdout.strip()


def _wait(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {_DEADLINE:g} s"
        time.sleep(0.2)


def _drop_in(host: Host, unit: str, text: str) -> None:
    host.write(f"/run/systemd/system/{unit}.d/test.conf", text)
    host.systemctl("daemon-reload")


@contextmanager
def _config(host: Host, old: str, new: str) -> Iterator[None]:
    """The configuration with something else in it."""
    before = host.read("/etc/etcdguard/config.yaml")
    assert old.encode() in before
    host.path("/etc/etcdguard/config.yaml").write_bytes(before.replace(old.encode(), new.encode()))
    try:
        yield
    finally:
        host.path("/etc/etcdguard/config.yaml").write_bytes(before)


def _journal(host: Host, unit: str) -> str:
    return host.run("journalctl", f"--unit={unit}", "--output=cat").stdout


def test_an_install_replaces_what_was_there(installed: Path) -> None:
    assert not [path for path in installed.rglob("*") if path.name in ("old.py", "broken.py")]
    python = installed / "usr/lib/etcdguard/bin/python"
    assert run_beside(installed, str(python), "-I", "-m", "etcdguard", "--version").startswith("etcdguard ")
    units = {path.name for path in (_CHECKOUT / "systemd").iterdir() if path.is_file()}
    assert {path.name for path in (installed / "usr/lib/systemd/system").iterdir()} == units


def test_units_run_the_program_of_their_prefix(tmp_path: Path) -> None:
    make_into("install-files", tmp_path, "/opt/guard")
    assert "/opt/guard/lib/etcdguard/bin/python" in (tmp_path / "opt/guard/bin/etcdguard").read_text()
    units = tmp_path / "opt/guard/lib/systemd/system"
    for unit in units.glob("*.service"):
        assert "\nExecStart=/opt/guard/bin/etcdguard " in unit.read_text()
    assert not [path for path in units.iterdir() if "/usr/" in path.read_text()]


def test_an_uninstall_takes_all_of_it_and_nothing_else(installed: Path, tmp_path: Path) -> None:
    dest = tmp_path / "copy"
    subprocess.run(["cp", "-al", installed, dest], check=True)
    foreign = {"etc/etcdguard/config.yaml", "usr/lib/systemd/system/other.service", "usr/bin/other"}
    for name in foreign:
        (dest / name).parent.mkdir(parents=True, exist_ok=True)
        (dest / name).write_text("not ours\n")
    make_into("uninstall", dest)
    assert files_of(dest) == foreign


@pytest.mark.parametrize("prefix", ["", "usr", "."])
def test_a_prefix_must_be_absolute(tmp_path: Path, prefix: str) -> None:
    for target in ("install", "uninstall"):
        argv = ["make", target, f"DESTDIR={tmp_path}", f"PREFIX={prefix}"]
        done = subprocess.run(argv, cwd=_CHECKOUT, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "PREFIX must be an absolute path" in done.stderr
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}*/*"))


def test_the_hosts_systemd_knows_every_line_of_the_units(host: Host) -> None:
    names = sorted(path.name for path in (_CHECKOUT / "systemd").iterdir() if path.is_file())
    units = [f"/usr/lib/systemd/system/{name}" for name in names]
    assert not host.run("systemd-analyze", "verify", "--man=no", *units).stderr
    for name in (name for name in names if name.endswith(".service")):
        told = host.run("systemd-analyze", "--no-pager", "security", name).stdout
        exposure = re.search(r"^→ Overall exposure level for \S+: ([0-9.]+) ", told, re.MULTILINE)
        assert exposure, told[-200:]
        assert float(exposure[1]) <= 2.0


def test_the_timer_fires_and_a_backup_appears(host: Host) -> None:
    before = len(_backups(host))
    often = (
        "[Timer]\nOnCalendar=\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nRandomizedDelaySec=0\nAccuracySec=1ms\n"
    )
    _drop_in(host, "etcdguard-backup.timer", often)
    host.systemctl("start", "etcdguard-backup.timer")
    _wait("a backup of the timer", lambda: len(_backups(host)) > before)
    host.systemctl("stop", "etcdguard-backup.timer")
    _wait("the end of the run", lambda: _show(host, _BACKUP, "ActiveState") in ("inactive", "failed"))
    assert _show(host, _BACKUP, "Result") == "success"
    assert all(backup["signed"] for backup in _backups(host))


def test_the_services_go_on_where_root_has_been(host: Host) -> None:
    host.systemctl("start", _BACKUP)
    host.run("etcdguard", "backup")
    assert not host.run("find", "/var/lib/etcdguard", "-mindepth", "2", "!", "-user", "etcdguard").stdout
    before = len(_backups(host))

    def another() -> bool:
        host.systemctl("start", _BACKUP)
        return len(_backups(host)) > before

    _wait("a backup of the service", another)


def test_backups_are_verified(host: Host) -> None:
    host.run("etcdguard", "backup")
    host.systemctl("start", "etcdguard-verify.service")
    assert {backup["verified_level"] for backup in _backups(host)} == {"manifest"}


def test_s3_credentials_reach_the_service(host: Host, seaweedfs_server: S3Server) -> None:
    bucket = make_bucket(seaweedfs_server)
    gateway = host.address.rpartition(".")[0] + ".1"
    port = urlsplit(seaweedfs_server.endpoint_url).port
    assert port is not None
    keys = (seaweedfs_server.access_key, seaweedfs_server.secret_key)
    profile = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n".format(*keys)
    with closing(TcpProxy("127.0.0.1", port, address=gateway)) as proxy:
        place = f"endpoint_url: 'http://{proxy.netloc}', region: us-east-1, addressing_style: path"
        s3 = f"s3: {{bucket: {bucket}, {place}}}"
        with (
            _config(host, 'file: {path: "/var/lib/etcdguard/repository"}', s3),
            _config(host, "schedule: 5s", "schedule: 1h"),  # S3 has a quarter of that, two minutes at most
        ):
            assert host.systemctl("start", _BACKUP, check=False).returncode != 0
            host.write(f"{_CREDENTIALS}/aws", profile, mode=0o600)
            host.systemctl("start", _BACKUP)
            host.run("rm", f"{_CREDENTIALS}/aws")
    found = seaweedfs_server.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert any(one["Key"].endswith("/manifest.json") for one in found)
    assert keys[1] not in _journal(host, _BACKUP)


def test_what_the_retention_lets_go_of_is_deleted(host: Host) -> None:
    for _ in range(2):
        host.run("etcdguard", "backup")
    refused = host.systemctl("start", "etcdguard-prune.service", check=False)
    assert refused.returncode != 0
    assert _show(host, "etcdguard-prune.service", "ExecMainStatus") == "64"  # there are no rules
    before = len(_backups(host))
    with _config(host, "backup:", "retention: {keep_last: 1, max_fraction: 1.0}\nbackup:"):
        host.systemctl("start", "etcdguard-prune.service")
    assert 0 < len(_backups(host)) < before


def test_without_credentials_the_service_user_gets_nowhere(host: Host) -> None:
    as_user = ("runuser", "-u", "etcdguard", "--")
    assert host.run(*as_user, "cat", "/etc/etcdguard/config.yaml").stdout
    for secret in (SYSTEMD_TLS.client_key, "/etc/etcdguard/signing.key.pem", f"{_CREDENTIALS}/cluster.key"):
        assert host.run(*as_user, "cat", str(secret), check=False).returncode != 0
    refused = host.run(*as_user, "etcdguard", "backup", check=False)
    assert refused.returncode != 0
    assert "Permission denied" in refused.stderr


@pytest.fixture
def daemon(host: Host) -> Iterator[None]:
    """The daemon is stopped when the test begins and after it; what the test dropped in is gone."""
    yield
    host.systemctl("stop", "etcdguard.service")
    host.systemctl("reset-failed", "etcdguard.service", check=False)  # unknown when it never failed
    host.run("rm", "-rf", "/run/systemd/system/etcdguard.service.d")
    host.systemctl("daemon-reload")


def _metrics(host: Host) -> str:
    """What the daemon shows; nothing while it does not serve."""
    ask = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:9379/metrics').read().decode())"
    return host.run("python3", "-c", ask, check=False).stdout


def _status(host: Host, name: str) -> str:
    return _show(host, "etcdguard.service", name)


def test_the_daemon_runs_reloads_and_ends(host: Host, daemon: None) -> None:
    before = len(_backups(host))
    host.systemctl("start", "etcdguard.service")
    jobs, _, word = _status(host, "StatusText").partition(" ")
    assert (_status(host, "ActiveState"), word) == ("active", "jobs")
    assert _status(host, "WatchdogUSec") == "2min"
    pid = _status(host, "MainPID")
    _wait("a backup of the daemon", lambda: len(_backups(host)) > before)
    seen = "/var/lib/etcdguard/daemon/samples.json"
    _wait("a look at the cluster", lambda: host.exists(seen))
    assert host.run("stat", "--format=%U %a", seen).stdout.split() == ["etcdguard", "600"]
    read = re.compile(r"^etcdguard_repository_up\{[^}]*\} 1(\.0)?$", re.MULTILINE)
    _wait("a look at the repository", lambda: read.search(_metrics(host)) is not None)

    key = "/run/credentials/etcdguard.service/cluster.key"
    assert host.read(key) == host.read(str(SYSTEMD_TLS.client_key))
    for user in ("nobody", "etcd"):
        assert host.run("runuser", "-u", user, "--", "cat", key, check=False).returncode != 0

    with _config(host, "schedule: 5s", "schedule: soon"):
        host.systemctl("reload", "etcdguard.service")
        _wait("a refused reload", lambda: "old one stays" in _status(host, "StatusText"))
    with _config(host, "backup:", "verify: {data: 1d}\nbackup:"):
        host.systemctl("reload", "etcdguard.service")
        _wait("a reload", lambda: _status(host, "StatusText") == f"{int(jobs) + 1} jobs")
    assert (_status(host, "ActiveState"), _status(host, "MainPID")) == ("active", pid)

    host.systemctl("stop", "etcdguard.service")
    assert (_status(host, "ActiveState"), _status(host, "Result")) == ("inactive", "success")
    assert not host.exists("/run/credentials/etcdguard.service")


def test_a_hung_daemon_is_restarted(host: Host, daemon: None) -> None:
    _drop_in(host, "etcdguard.service", "[Service]\nWatchdogSec=10s\nRestartSec=100ms\n")
    host.systemctl("start", "etcdguard.service")
    pid = _status(host, "MainPID")
    host.systemctl("kill", "--signal=STOP", "--kill-who=main", "etcdguard.service")
    _wait(
        "another daemon",
        lambda: _status(host, "ActiveState") == "active" and _status(host, "MainPID") not in (pid, "0"),
    )
    _wait("the reason", lambda: "Watchdog timeout" in _journal(host, "etcdguard.service"))


def test_a_bad_configuration_is_not_tried_again(host: Host, daemon: None) -> None:
    with _config(host, "schedule: 5s", "schedule: soon"):
        assert host.systemctl("start", "etcdguard.service", check=False).returncode != 0
    found = {name: _status(host, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")}
    assert found == {"ActiveState": "failed", "ExecMainStatus": "64", "NRestarts": "0"}
    _wait("the reason", lambda: "backup.schedule: not an interval" in _journal(host, "etcdguard.service"))
