"""``etcdguard member replace`` as people run it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Installation
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import write_history

LOST = "etcd-2"


@pytest.fixture
def cluster(cluster_factory: ClusterFactory) -> LocalCluster:
    made = cluster_factory()
    write_history(made)
    return made


@pytest.fixture
def site(cluster: LocalCluster, tmp_path: Path) -> Installation:
    made = Installation.of(tmp_path / "site", cluster)
    made.settings["members"] = [
        {
            "name": name,
            "peer_urls": [cluster.peer_url(name)],
            "client_urls": [cluster.client_url(name)],
            "data_dir": str(cluster.data_dir(name)),
        }
        for name in cluster.names
    ]
    made.settings["restore"] = {"state_dir": str(made.folder / "state")}
    made.save()
    return made


def lose(cluster: LocalCluster) -> None:
    cluster.kill(LOST)
    shutil.rmtree(cluster.data_dir(LOST))


def start_when_told(cluster: LocalCluster, process: subprocess.Popen[str]) -> str:
    """What the operator does; returns everything that was said on stderr."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("start etcd on this machine now"):
            cluster.start_member(LOST)
    return said


def test_the_member_is_back_with_all_its_data(
    site: Installation, cluster: LocalCluster, etcd_binaries: EtcdPrograms
) -> None:
    lose(cluster)

    process = site.start("member", "replace", LOST, "--yes", "-o", "json")
    said = start_when_told(cluster, process)
    assert process.stdout is not None
    out = process.stdout.read()

    assert process.wait() == 0, said
    replaced = json.loads(out)["replaced"]
    members = Etcdctl(etcd_binaries.etcdctl, cluster).json("member", "list")["members"]
    assert {member["name"]: format(member["ID"], "x") for member in members}[LOST] == replaced["member_id"]
    assert len(set(Etcdctl(etcd_binaries.etcdctl, cluster).hash_kv().values())) == 1
    assert replaced["verified"].endswith("on all 3")


def test_a_dry_run_changes_nothing_and_tells_all(site: Installation, cluster: LocalCluster) -> None:
    done = site.run("member", "replace", LOST, "--dry-run", code=15)
    assert "runs: it answers at" in done.problem[0]
    assert "1. stop: check that etcd is stopped" in done.out

    lose(cluster)
    plan = site.json("member", "replace", LOST, "--dry-run")["plan"]

    assert plan["member"]["name"] == LOST
    assert plan["asides"][0]["directory"] == str(cluster.data_dir(LOST))
    assert not (site.folder / "state").exists()
    assert len(site.json("member", "replace", LOST, "--dry-run")["plan"]["endpoints"]) == 2


def test_without_a_quorum_the_hint_is_a_restore(site: Installation, cluster: LocalCluster) -> None:
    site.settings["cluster"]["command_timeout"] = "5s"  # waited for to the end
    site.save()
    cluster.kill(LOST, cluster.names[0])

    done = site.run("member", "replace", LOST, "--yes", code=15)

    error, hint = done.problem
    assert "no quorum answers" in error
    assert "etcdguard restore" in hint


def test_bad_input_is_refused(site: Installation, cluster: LocalCluster) -> None:
    assert "no member 'etcd-9'" in site.run("member", "replace", "etcd-9", "--yes", code=64).problem[0]
    assert "--yes" in site.run("member", "replace", LOST, code=64).problem[1]
    lose(cluster)
    relative = site.run("member", "replace", LOST, "--yes", "--data-dir", "data", code=64)
    assert "cannot be a member's directory" in relative.problem[0]


def test_only_the_clusters_name_confirms(site: Installation, cluster: LocalCluster) -> None:
    lose(cluster)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        site.argv("member", "replace", LOST),
        env=site.environment(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(ours, b"yes\n")
    _, said = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)

    assert process.returncode == 15
    assert "that is not the cluster's name" in said
    assert "This replaces etcd-2 on this machine" in said
    assert not (site.folder / "state").exists()
