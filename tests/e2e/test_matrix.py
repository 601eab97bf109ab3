"""Every supported etcd, every way to secure it, and clusters to which things happen."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.model import MemberStatus
from tests.e2e.gate import gate
from tests.e2e.running import Done, Installation, credentials, s3_repository
from tests.support.certs import Pki
from tests.support.defrags import STEADY
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, Etcdctl, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import fill, write_history, write_load
from tests.support.s3_servers import S3Server
from tests.support.waiting import PLENTY, eventually

_ROOT = Credentials("root", "correct-horse-battery")
_BULK = 24_000_000
"""Bytes of data: some times what the gate lets pass and the buffers on the way hold."""


# -- versions and transports -----------------------------------------------------------------------------


def _check(here: Installation, cluster: LocalCluster, etcdctl: Etcdctl) -> None:
    """Back up and verify; the manifest says what etcd's own client says."""
    backup_id = here.backup()
    (result,) = here.json("verify", "--level", "data")["results"]
    assert result == {"id": backup_id, "level": "data", "outcome": "ok", "problems": []}
    manifest = here.json("show", backup_id)["manifest"]
    revision = manifest["snapshot"]["revision"]
    assert etcdctl.revision() - revision in (0, 1)  # giving the lock up is a write
    said = manifest["members"]
    assert sorted(said, key=_by_id) == sorted(_members(etcdctl), key=_by_id)
    source = next(member for member in said if member["id"] == manifest["cluster"]["member_id"])
    (url,) = source["client_urls"]
    (status,) = (one for one in etcdctl.json("endpoint", "status") if one["Endpoint"] == url)
    header = status["Status"]["header"]
    assert manifest["cluster"] == {
        "name": "prod",
        "cluster_id": format(header["cluster_id"], "x"),
        "member_id": format(header["member_id"], "x"),
        "member_name": source["name"],
        "etcd_version": cluster.etcd.version_text,
        "storage_version": manifest["cluster"]["storage_version"],
        "kubernetes": True,
    }
    hash_kv, compacted = etcdctl.hash_kv(revision)[url]
    assert manifest["hash_kv"] == {"hash": hash_kv, "revision": revision, "compact_revision": compacted}
    if len(said) > 1:
        assert status["Status"]["leader"] != header["member_id"], "a follower carries the load"


def _by_id(member: dict[str, Any]) -> str:
    return str(member["id"])


def _members(etcdctl: Etcdctl) -> list[dict[str, Any]]:
    return [
        {
            "id": format(member["ID"], "x"),
            "name": member["name"],
            "peer_urls": member["peerURLs"],
            "client_urls": member["clientURLs"],
            "is_learner": member.get("isLearner", False),
        }
        for member in etcdctl.json("member", "list")["members"]
    ]


@each_etcd_version
@pytest.mark.parametrize("transport", ["plain", "tls", "mtls"])
def test_versions_and_transports(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory, pki: Pki, transport: str
) -> None:
    tls = {"plain": None, "tls": pki.tls(client_auth=False), "mtls": pki.tls()}[transport]
    # Three members where nothing else is special, to keep the whole within minutes.
    cluster = cluster_factory(tls=tls) if tls is None else cluster_factory(names=("alone",), tls=tls)
    write_history(cluster)
    here = Installation.of(tmp_path / "here", cluster, client_certificate=transport == "mtls")
    _check(here, cluster, Etcdctl(etcd_binaries.etcdctl, cluster))


@each_etcd_version
def test_versions_with_authentication(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(names=("alone",))
    write_history(cluster)
    etcdctl = enable_auth(etcd_binaries.etcdctl, cluster, _ROOT)
    here = Installation.of(tmp_path / "here", cluster, variables={"ETCDGUARD_PASSWORD": _ROOT.password})
    here.settings["cluster"]["user"] = _ROOT.user
    here.save()
    _check(here, cluster, etcdctl)

    del here.variables["ETCDGUARD_PASSWORD"]
    error, _ = here.run("backup", "-q", code=64).problem
    assert "password" in error
    password_file = here.folder / "etcd-password"
    password_file.touch(mode=0o600)
    password_file.write_text(f"{_ROOT.password}\n")
    here.settings["cluster"]["password_file"] = password_file.name
    here.save()
    _check(here, cluster, etcdctl)


# -- while things happen ---------------------------------------------------------------------------------


def _leader(cluster: LocalCluster) -> str | None:
    """The name of the leader, if the members that answer agree on one."""
    with EtcdClient(ConnectionOptions(cluster.client_urls, command_timeout=60)) as client:
        answers = [one for one in client.statuses() if isinstance(one, MemberStatus)]
    leaders = {one.leader_id for one in answers}
    urls = [one.endpoint for one in answers if one.is_leader]
    if len(leaders) != 1 or len(urls) != 1:
        return None
    return next(name for name in cluster.names if cluster.client_url(name) == urls[0])


@pytest.fixture
def busy(cluster_factory: ClusterFactory) -> LocalCluster:
    """Three members with enough data to stop a snapshot of it half-way."""
    cluster = cluster_factory(extra_args=STEADY)
    fill(cluster, _BULK)
    return cluster


@pytest.mark.parametrize("event", ["leader hands over", "leader is killed"])
def test_a_leader_change_in_the_middle_of_a_snapshot_under_load(
    tmp_path: Path, etcd_binaries: EtcdPrograms, busy: LocalCluster, event: str
) -> None:
    etcdctl = Etcdctl(etcd_binaries.etcdctl, busy)
    here = Installation.of(tmp_path / "here", busy)
    before = etcdctl.revision()
    leader = _leader(busy)
    assert leader is not None
    with gate(busy) as held, write_load(busy) as load:
        here.settings["cluster"]["endpoints"] = list(held.endpoints.values())
        here.settings["backup"]["prefer"] = "leader" if event == "leader hands over" else "follower"
        here.save()
        process = here.start("backup", "-o", "json")
        source = held.wait_until_holding()
        if event == "leader hands over":
            assert source == leader
            follower = next(one["id"] for one in _members(etcdctl) if one["name"] != leader)
            etcdctl.run("move-leader", follower)
        else:
            assert source != leader
            busy.kill(leader)
        eventually(lambda: _leader(busy) not in (None, leader), "a new leader")
        held.open()
        out, err = process.communicate(timeout=PLENTY)
        assert process.returncode == 0, err
    assert load.acknowledged
    backup = json.loads(out)["backup"]
    assert backup["revision"] >= before
    _assert_sound(here, etcd_binaries, backup)


def _assert_sound(here: Installation, etcd_binaries: EtcdPrograms, backup: dict[str, Any]) -> None:
    """Sound to ourselves, and to etcd's own tool the snapshot that the backup says it is."""
    (result,) = here.json("verify", "--level", "data")["results"]
    assert (result["id"], result["outcome"]) == (backup["id"], "ok")
    target = here.folder / "snapshot.db"
    here.run("download", backup["id"], "-o", target)
    assert etcd_binaries.etcdutl is not None
    argv = [str(etcd_binaries.etcdutl.path), "snapshot", "status", str(target), "-w", "json"]
    status = json.loads(subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout)
    assert status["revision"] == backup["revision"]
    assert status["totalSize"] == backup["db_bytes"]


def test_a_member_that_dies_while_it_is_read_leaves_nothing(
    tmp_path: Path, etcd_binaries: EtcdPrograms, busy: LocalCluster
) -> None:
    here = Installation.of(tmp_path / "here", busy)
    with gate(busy) as held:
        here.settings["cluster"]["endpoints"] = list(held.endpoints.values())
        here.save()
        process = here.start("backup", "-q", "-o", "json")
        source = held.wait_until_holding()
        busy.kill(source)
        held.open()
        out, err = process.communicate(timeout=PLENTY)
    assert (process.returncode, out) == (2, ""), err
    error, _ = Done(process.returncode, out, err).problem
    assert "snapshot" in error
    assert list(here.spool.iterdir()) == [here.spool / "lock"]
    assert here.ids() == []
    here.settings["cluster"]["endpoints"] = list(busy.client_urls)
    here.save()
    eventually(lambda: _leader(busy) is not None, "a leader")
    _assert_sound(here, etcd_binaries, here.json("backup")["backup"])


def test_an_emergency_backup_of_a_member_without_quorum(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory()
    history = write_history(cluster)
    here = Installation.of(tmp_path / "here", cluster)
    survivor, *others = cluster.names  # the writes went through the first, so it has applied them
    cluster.kill(*others)
    with EtcdClient(ConnectionOptions((cluster.client_url(survivor),), command_timeout=60)) as client:
        eventually(lambda: client.status(client.endpoints[0]).leader_id == "0", "no leader")
    done = here.run("backup", "-q", code=5)
    error, hint = done.problem
    assert "knows no leader" in error
    assert "--emergency" in hint
    assert here.ids() == []
    backup = here.json("backup", "--emergency")["backup"]
    assert backup["revision"] == history.revision
    _assert_sound(here, etcd_binaries, backup)


def test_the_member_asked_for(tmp_path: Path, shared_cluster: LocalCluster) -> None:
    here = Installation.of(tmp_path / "here", shared_cluster)
    for name in shared_cluster.names:
        backup = here.json("backup", "--endpoint", shared_cluster.client_url(name))["backup"]
        assert here.json("show", backup["id"])["manifest"]["cluster"]["member_name"] == name


def test_two_writers_share_a_bucket_of_each_server(
    tmp_path: Path, shared_cluster: LocalCluster, s3_server: S3Server, s3_bucket: str
) -> None:
    nodes = []
    for name in ("node-1", "node-2"):
        node = Installation.of(tmp_path / name, shared_cluster, variables=credentials(s3_server))
        node.settings["repositories"] = [s3_repository(s3_server, s3_bucket)]
        node.save()
        nodes.append(node)
    both = [node.start("backup", "-o", "json") for node in nodes]
    ids = []
    for process in both:
        out, err = process.communicate(timeout=PLENTY)
        assert process.returncode == 0, err
        ids.append(json.loads(out)["backup"]["id"])
    for node in nodes:
        assert sorted(node.ids()) == sorted(ids)
