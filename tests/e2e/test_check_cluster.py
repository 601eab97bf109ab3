"""``etcdguard check cluster`` on real clusters: sound, hurt, full, corrupt, with certificates that end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster, TlsFiles
from etcdguard.maintenance.checks.history_file import HistoryFile
from tests.e2e.running import Installation
from tests.support.certs import Authority
from tests.support.defrags import STEADY
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill, write_history
from tests.support.restores import wait_applied
from tests.support.waiting import eventually

# How fast this machine and its disk happen to be is not what these tests are about.
_OFF = (
    "wal_fsync", "backend_commit", "peer_round_trip", "unapplied", "disk", "clock", "leader_changes",
    "failed_proposals",
)  # fmt: skip


def installed(folder: Path, cluster: LocalCluster) -> Installation:
    here = Installation.of(folder, cluster)
    here.settings["checks"] = {
        "window": "100ms",
        "thresholds": {name: {"warn": None, "fail": None} for name in _OFF},
    }
    here.save()
    return here


def check(here: Installation, *flags: str, code: int = 0) -> dict[str, Any]:
    """The lines by name, ``outcome`` among them."""
    document = here.json("check", "cluster", *flags, code=code)
    lines = {line["name"].removeprefix("cluster."): line for line in document["checks"]}
    assert all(line["value"] for line in lines.values())
    return {**lines, "outcome": document["outcome"]}


def outcomes(lines: Mapping[str, Any], *wanted: str) -> dict[str, str]:
    return {
        name: line["outcome"]
        for name, line in lines.items()
        if name != "outcome" and line["outcome"] in wanted
    }


def until_calm(here: Installation, *flags: str, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """The lines when nothing ``but`` those is bad: on a slow machine an election may be going on at first."""
    deadline = time.monotonic() + 60
    while True:
        done = here.run("check", "cluster", *flags, "-o", "json", code=None)
        lines = {line["name"].removeprefix("cluster."): line for line in done.document["checks"]}
        bad = outcomes(lines, "WARN", "FAIL").keys() - set(but)
        if not bad:
            assert done.code == 0
            return {**lines, "outcome": done.document["outcome"]}
        assert time.monotonic() < deadline, {name: lines[name] for name in bad}


@pytest.fixture
def lasting(tmp_path: Path) -> TlsFiles:
    """Certificates that are good for a year."""
    authority = Authority(tmp_path, "authority", days=365)
    server, client = (authority.issue(name, days=365) for name in ("server", "client"))
    return TlsFiles(authority.path, server.cert, server.key, client.cert, client.key)


@each_etcd_version
def test_a_sound_cluster_is_ok_and_the_loss_of_a_voter_is_told(
    tmp_path: Path, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, lasting: TlsFiles
) -> None:
    cluster = cluster_factory(tls=lasting)
    history = write_history(cluster)
    wait_applied(Etcdctl(etcd_binaries.etcdctl, cluster), history.revision)
    here = installed(tmp_path / "here", cluster)
    here.settings["members"] = [
        {"name": name, "peer_urls": [cluster.peer_url(name)], "data_dir": str(cluster.data_dir(name))}
        for name in cluster.names
    ]
    here.settings["cluster"]["endpoints"] = [cluster.client_urls[0]]  # the others are found from there
    here.save()
    here.backup()

    lines = until_calm(here)

    assert lines["outcome"] == "OK"
    # A hash and a growth of backups a moment apart would be invented.
    allowed = {"quota_forecast", "key_growth", "peer_round_trip"}
    assert {"quota_forecast", "key_growth"} <= outcomes(lines, "SKIP").keys() <= allowed
    assert lines["quorum"]["value"] == "3 of 3 voters answer"
    assert lines["metrics"]["value"] == "read from 3 members"
    assert "on all 3" in lines["hash"]["value"]
    assert lines["versions"]["value"] == etcd_binaries.version
    assert "of 2.0 GiB" in lines["database_quota"]["value"]
    assert lines["disk"]["outcome"] == "OK"
    assert all(name in lines["disk"]["value"] for name in cluster.names)
    assert "/registry/pods" in lines["prefix_share"]["value"]
    for name in cluster.names:
        assert f"server {cluster.client_url(name)}" in lines["certificates"]["value"]

    cluster.kill(cluster.names[1])
    lines = until_calm(here, "--no-hash", but=("quorum",))
    assert lines["outcome"] == "WARN"
    assert lines["quorum"]["outcome"] == "WARN"
    assert lines["quorum"]["value"].startswith("2 of 3 voters answer; etcd-2: ")
    assert lines["hash"] == {**lines["hash"], "outcome": "SKIP", "value": "not asked for"}


def test_a_daemon_remembers_what_rates_and_trends_need(
    tmp_path: Path, cluster_factory: ClusterFactory
) -> None:
    """Real looks at a real cluster; only their times are set back, so that nobody waits for hours."""
    cluster = cluster_factory(extra_args=STEADY)
    here = installed(tmp_path / "here", cluster)
    for name in ("leader_changes", "failed_proposals"):
        del here.settings["checks"]["thresholds"][name]
    here.settings["checks"]["schedule"] = "300d"
    del here.settings["backup"]["schedule"]
    here.save()
    file = HistoryFile(tmp_path / "here" / "daemon")
    move_leader(cluster, 4)
    lines = check(here, "--no-hash")
    assert lines["leader_changes"]["outcome"] == "SKIP"
    assert lines["quota_forecast"]["outcome"] == lines["key_growth"]["outcome"] == "SKIP"

    fill(cluster, 200_000, prefix="/first/")
    let_a_daemon_look(here, file)
    assert file.path.stat().st_mode & 0o777 == 0o600
    set_back(file, to=timedelta(hours=3))
    fill(cluster, 800_000, prefix="/second/")
    let_a_daemon_look(here, file)
    fill(cluster, 3_000_000, prefix="/third/")

    set_back(file, to=timedelta(minutes=13, seconds=40))
    lines = check(here, "--no-hash")
    assert lines["leader_changes"]["outcome"] == "OK"
    assert " in 13m" in lines["leader_changes"]["value"] or " in 14m" in lines["leader_changes"]["value"]
    assert lines["failed_proposals"]["outcome"] == "OK"
    rate, _, _ = lines["failed_proposals"]["value"].partition("/s on ")
    assert float(rate) < 5  # the threshold; an election may well cost one
    assert lines["key_growth"]["outcome"] == "WARN"
    assert lines["key_growth"]["value"].endswith(" keys")
    assert "full in " in lines["quota_forecast"]["value"]

    move_leader(cluster, 4)
    set_back(file, to=timedelta(minutes=13, seconds=40))
    lines = check(here, "--no-hash")
    assert lines["leader_changes"]["outcome"] == "WARN"
    assert int(lines["leader_changes"]["value"].split()[0]) >= 4


def move_leader(cluster: LocalCluster, times: int) -> None:
    with AdminClient(ConnectionOptions(cluster.client_urls, command_timeout=60)) as client:

        def the_leader() -> list[str]:
            return [url for url in cluster.client_urls if client.status(url).is_leader]

        for _ in range(times):
            eventually(lambda: len(the_leader()) == 1, "one leads")
            (leader,) = the_leader()
            target = next(url for url in cluster.client_urls if url != leader)
            client.move_leader(leader, client.status(target).member_id)


def let_a_daemon_look(here: Installation, file: HistoryFile) -> None:
    """Until it has looked once more."""

    def looks() -> list[datetime]:
        found = file.read()
        return [] if found is None else [one.at for one in found.sizes]

    before = looks()
    with here.start("daemon") as daemon:
        eventually(lambda: len(looks()) > len(before), "the daemon has looked")
        daemon.terminate()
        daemon.communicate(timeout=120)
    assert looks()[: len(before)] == before


def set_back(file: HistoryFile, to: timedelta) -> None:
    """Make the newest look that long ago, and the others as much earlier."""
    found = file.read()
    assert found is not None
    by = found.samples[-1].at - (datetime.now(timezone.utc) - to)
    file.write(
        replace(
            found,
            samples=tuple(replace(one, at=one.at - by) for one in found.samples),
            sizes=tuple(replace(one, at=one.at - by) for one in found.sizes),
        )
    )


def test_a_lost_quorum_and_nobody_at_all(
    tmp_path: Path, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    cluster = cluster_factory()
    here = installed(tmp_path / "here", cluster)
    here.settings["cluster"]["command_timeout"] = "8s"  # waited for twice
    here.save()
    cluster.kill(*cluster.names[:2])

    lines = check(here, code=5)
    assert lines["quorum"]["outcome"] == "FAIL"
    assert lines["quorum"]["value"].startswith("1 of 3 voters answer; no linearizable read")
    assert lines["hash"]["outcome"] == "SKIP"

    cluster.kill()
    done = here.run("check", "cluster", "-o", "json", code=2)
    assert [line["name"] for line in done.document["checks"]] == ["cluster.quorum", "cluster.certificates"]
    assert "connection refused" in done.problem[0]


def test_no_space_is_told_with_the_way_out(
    tmp_path: Path, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    cluster = cluster_factory(names=("alone",), quota_bytes=4 * 1024 * 1024)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    with pytest.raises(AssertionError, match="database space exceeded"):
        fill_up(etcdctl)
    assert "NOSPACE" in etcdctl.run("alarm", "list")
    here = installed(tmp_path / "here", cluster)

    done = here.run("check", "cluster", "-o", "json", code=5)

    lines = {line["name"]: line for line in done.document["checks"]}
    assert lines["cluster.alarms"]["outcome"] == "FAIL"
    assert lines["cluster.alarms"]["value"] == "NOSPACE on alone"
    assert lines["cluster.database_quota"]["outcome"] == "FAIL"
    assert lines["cluster.hash"]["outcome"] == "OK"  # although no lock is granted
    assert "defragment" in done.problem[1]


def fill_up(etcdctl: Etcdctl) -> None:
    for number in range(100):
        etcdctl.run("put", f"/fill/{number}", stdin="x" * 500_000)


@each_etcd_version
def test_a_member_whose_data_was_altered_is_corruption(
    tmp_path: Path, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    cluster = cluster_factory()
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    marker = "the-value-of-one-key-" * 3
    etcdctl.run("put", "/registry/one", marker)
    wait_applied(etcdctl, etcdctl.revision())
    here = installed(tmp_path / "here", cluster)
    assert until_calm(here)["hash"]["outcome"] == "OK"
    cluster.stop()
    altered = cluster.names[2]
    alter(cluster.data_dir(altered) / "member" / "snap" / "db", marker.encode())
    cluster.start_all()
    cluster.wait_healthy()

    done = here.run("check", "cluster", "-o", "json", code=13)

    lines = {line["name"]: line for line in done.document["checks"]}
    assert lines["cluster.hash"]["outcome"] == "FAIL"
    assert all(name in lines["cluster.hash"]["value"] for name in cluster.names)
    assert done.problem[0].startswith("cluster.hash: not equal")
    assert etcdctl.run("alarm", "list") == ""  # etcd itself has noticed nothing


def alter(database: Path, value: bytes) -> None:
    """Change one bit of that value wherever it stands in the file, as a bad disk would."""
    data = database.read_bytes()
    assert data.count(value) > 0
    changed = bytes([value[0] ^ 1]) + value[1:]
    database.write_bytes(data.replace(value, changed))


def test_certificates_that_end_soon_and_that_have_ended(
    tmp_path: Path, cluster_factory: ClusterFactory
) -> None:
    authority = Authority(tmp_path, "authority", days=2)
    server, client = (authority.issue(name, days=2) for name in ("server", "client"))
    sound = TlsFiles(authority.path, server.cert, server.key, client.cert, client.key)
    cluster = cluster_factory(names=("alone",), tls=sound)
    here = installed(tmp_path / "here", cluster)
    lines = until_calm(here, but=("certificates",))
    assert lines["certificates"]["outcome"] == "WARN"
    assert "server https://" in lines["certificates"]["value"]

    cluster.stop()
    expired = authority.issue("expired", expired=True)
    cluster.tls = replace(sound, cert=expired.cert, key=expired.key)
    cluster.start_all()
    wait_for_refusal(here)
    done = here.run("check", "cluster", "-o", "json", code=2)
    quorum, certificates = done.document["checks"]
    assert "certificate has expired" in quorum["value"]
    assert certificates["outcome"] == "FAIL"
    assert "expired 1h" in certificates["value"]


def wait_for_refusal(here: Installation) -> None:
    """Until the member listens: it then shows its certificate."""
    deadline = time.monotonic() + 60
    while True:
        done = here.run("check", "cluster", "-o", "json", code=2)
        if "expired" in done.document["checks"][0]["value"]:
            return
        assert time.monotonic() < deadline, done.out
