"""``etcdguard defrag`` as people run it: a plan, an interrupt, the rest; and a cluster without space."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Installation
from tests.e2e.stopping import CHECKOUT, has_stopped, stopping_at
from tests.support.defrags import STEADY, fragment
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import connect, json_like

_SMALL = {"min_size": "1MiB", "min_free": "1MiB", "settle": "1s", "compact_age": "1s"}


def installation(folder: Path, cluster: LocalCluster) -> Installation:
    here = Installation.of(folder, cluster)
    here.settings["defrag"] = _SMALL
    here.save()
    return here


def sizes(etcdctl: Etcdctl) -> list[int]:
    return [one["Status"]["dbSize"] for one in etcdctl.json("endpoint", "status")]


def events(here: Installation) -> list[Any]:
    found = sorted((here.repository / "prod" / "events").glob("*-defrag-*.json"))
    return [json.loads(path.read_bytes()) for path in found]


def test_planned_interrupted_and_finished(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(extra_args=STEADY)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    with AdminClient(ConnectionOptions(cluster.client_urls, command_timeout=60)) as client:
        fragment(cluster, client)
    here = installation(tmp_path / "here", cluster)
    before = sizes(etcdctl)

    planned = here.json("defrag", "--dry-run")
    assert planned["outcome"] == "planned"
    assert planned["problems"] == []
    assert planned["backup"] is None
    assert [one["order"] for one in planned["members"]] == [1, 2, 3]
    assert [one["role"] for one in planned["members"]] == ["follower", "follower", "leader"]
    assert {one["action"] for one in planned["members"]} == {"defragment"}
    table = here.run("defrag", "--dry-run").out
    assert all(name in table for name in cluster.names)
    assert "one would be taken" in table
    assert sizes(etcdctl) == before
    assert here.ids() == []
    assert events(here) == []

    process = subprocess.Popen(
        stopping_at(["defragmenting"], here.argv("defrag", "-o", "json")),
        env=here.environment(PYTHONPATH=str(CHECKOUT)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert has_stopped(process.pid)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    interrupted = json.loads(out)
    assert interrupted["outcome"] == "interrupted"
    assert [one["outcome"] for one in interrupted["members"]] == ["done", None, None]
    assert "error: interrupted; defragmented: " in err
    (backup_id,) = here.ids()
    assert interrupted["backup"] == {**interrupted["backup"], "id": backup_id, "level": "data"}
    assert here.json("list")["backups"][0]["verified_level"] == "data"

    done = here.json("defrag")
    assert done["outcome"] == "done"
    assert done["backup"]["id"] == backup_id, "it is young enough"
    assert [one["outcome"] for one in done["members"]] == ["done", "done", None]
    assert done["members"][2]["id"] == interrupted["members"][0]["id"]
    assert all(after < size / 2 for after, size in zip(sizes(etcdctl), before, strict=True))
    assert [(one["outcome"], len(one["members"])) for one in events(here)] == [
        ("interrupted", 1),
        ("done", 2),
    ]
    assert "nothing to do" in here.run("defrag").out

    key = "/etcdguard/prod/lock/maintenance"
    with connect(cluster) as other:
        other.put(key, json.dumps({"owner": "somebody", "since": "today"}))
        error, _ = here.run("defrag", code=11).problem
        assert "somebody" in error
        waiting = here.start("backup", "-o", "json")
        assert waiting.stderr is not None
        assert any("backup.waiting" in line for line in waiting.stderr)
        assert here.ids() == [backup_id]
        other.delete(key)
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, err
    assert json.loads(out)["outcome"] == "created"


def test_a_cluster_out_of_space_recovers(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory(quota_bytes=8_000_000, extra_args=STEADY)
    etcdctl = Etcdctl(etcd_binaries.etcdctl, cluster)
    here = installation(tmp_path / "here", cluster)
    values = json_like(100_000, seed=1)
    with connect(cluster) as client:

        def overwrite() -> None:
            for number in range(1000):
                client.put(f"/registry/object-{number % 5}", next(values))

        with pytest.raises(grpc.RpcError, match="database space exceeded"):
            overwrite()
    assert "NOSPACE" in etcdctl.run("alarm", "list")
    with pytest.raises(AssertionError, match="space exceeded"):
        etcdctl.run("put", "/after", "the alarm")
    expected = {
        f"/registry/object-{number}": etcdctl.get(f"/registry/object-{number}") for number in range(5)
    }

    table = here.run("defrag", "--dry-run").out
    assert "NOSPACE: old history would be compacted first" in table
    assert "NOSPACE" in etcdctl.run("alarm", "list")

    report = here.json("defrag")
    assert (report["outcome"], report["nospace"], report["disarmed"]) == ("done", True, True)
    assert report["compacted"] > 0
    assert [one["outcome"] for one in report["members"]] == ["done"] * 3
    assert report["backup"]["id"] in here.ids()
    assert max(sizes(etcdctl)) < 0.8 * 8_000_000
    assert etcdctl.run("alarm", "list") == ""
    etcdctl.run("put", "/after", "the recovery")
    assert etcdctl.get("/after") == "the recovery"
    assert {key: etcdctl.get(key) for key in expected} == expected
    (event,) = events(here)
    assert (event["outcome"], event["disarmed"], event["compacted"]) == ("done", True, report["compacted"])
