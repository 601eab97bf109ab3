"""``etcdguard check cluster`` on real clusters: sound, hurt, full, corrupt, with certificates that end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.local import LocalCluster, TlsFiles
from tests.e2e.running import Installation
from tests.support.certs import Authority, Pki
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import write_history
from tests.support.restores import wait_applied

# How fast this machine and its disk happen to be is not what these tests are about.
_OFF = (
    "wal_fsync", "backend_commit", "peer_round_trip", "unapplied", "disk", "clock", "leader_changes",
    "failed_proposals",
)  # fmt: skip


def installed(folder: Path, cluster: LocalCluster) -> Installation:
    here = Installation.of(folder, cluster)
    here.settings["cluster"]["command_timeout"] = "20s"
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
    tmp_path: Path, cluster_factory: ClusterFactory, pki: Pki
) -> None:
    cluster = cluster_factory(names=("alone",), tls=pki.tls())
    here = installed(tmp_path / "here", cluster)
    lines = until_calm(here, but=("certificates",))
    assert lines["certificates"]["outcome"] == "WARN"
    assert "server https://" in lines["certificates"]["value"]

    cluster.stop()
    expired = replace(pki, server=pki.expired_server).tls()
    cluster.tls = expired
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
