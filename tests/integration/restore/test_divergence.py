"""The two ways a restore by hand diverges in silence, on real etcd; and why etcdguard's restores cannot.

Both come from one token in two clusters: member and cluster ids follow from it and the peer URLs alone.
Nothing tells a member of the old cluster, or one that is empty, from the restored one whose place it takes.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.local import TlsFiles
from tests.integration.restore.conftest import Scene
from tests.support.etcdctl import Etcdctl
from tests.support.restores import wait_applied
from tests.support.waiting import eventually

_KEYS = "/registry/pods/"

in_both_lines = pytest.mark.parametrize("etcd_binaries", ["3.5", "3.6"], indirect=True)


@in_both_lines
def test_by_hand_a_stale_member_with_the_same_token_diverges_in_silence(scene: Scene, tmp_path: Path) -> None:
    cluster = scene.cluster
    first, second, stale = cluster.names
    scene.etcdctl.run("put", f"{_KEYS}late", "written after the snapshot")
    cluster.stop()
    _restore_by_hand(scene, tmp_path, first, second)
    _begin_logs(scene)

    # Its log is the longest, so of the first two members that meet it is the one to lead.
    cluster.start_member(first)
    cluster.start_member(stale)
    cluster.wait_healthy(names=[first, stale])
    cluster.start_member(second)
    cluster.wait_healthy()
    scene.etcdctl.run("put", f"{_KEYS}after", "accepted by all three")
    _wait_for_same_index(scene)

    _assert_nobody_complains(scene)
    found = {name: _status(scene, name)["header"]["revision"] for name in cluster.names}
    # The restored members apply the old log a second time, on top of the snapshot that has it already.
    assert found[first] == found[second] > found[stale]
    hashes = scene.etcdctl.hash_kv()
    assert hashes[cluster.client_url(first)] == hashes[cluster.client_url(second)]
    assert hashes[cluster.client_url(first)] != hashes[cluster.client_url(stale)]


@in_both_lines
def test_by_hand_a_wiped_member_with_the_same_token_votes_without_a_key(scene: Scene, tmp_path: Path) -> None:
    cluster = scene.cluster
    first, second, wiped = cluster.names
    cluster.stop()
    _restore_by_hand(scene, tmp_path, first, second)
    _begin_logs(scene)
    shutil.rmtree(cluster.data_dir(wiped))

    cluster.start_all()
    cluster.wait_healthy()
    scene.etcdctl.run("put", f"{_KEYS}after", "accepted by all three")
    _wait_for_same_index(scene)

    _assert_nobody_complains(scene)
    assert _keys(scene, first) == _keys(scene, second) == len(scene.history.live) + 1
    assert _keys(scene, wiped) == 1
    # A linearizable read makes sure of the log alone: clients of that member see an empty cluster.
    assert _keys(scene, wiped, consistency="l") == 1
    hashes = scene.etcdctl.hash_kv()
    assert hashes[cluster.client_url(first)] == hashes[cluster.client_url(second)]
    assert hashes[cluster.client_url(first)] != hashes[cluster.client_url(wiped)]


@in_both_lines
def test_with_etcdguard_a_stale_member_stays_outside(scene: Scene) -> None:
    cluster = scene.cluster
    first, second, stale = cluster.names
    scene.etcdctl.run("put", f"{_KEYS}late", "written after the snapshot")
    cluster.stop()
    scene.run(scene.plan(), first, second)

    # In the order that diverges above: alone with a restored member, it must not find a leader.
    cluster.start_member(first)
    cluster.start_member(stale)
    _wait_for_log(scene, "cluster ID mismatch", first, stale)
    cluster.start_member(second)
    cluster.wait_healthy(names=[first, second])

    _assert_two_serve_and_one_is_outside(scene, stale)
    assert _etcdctl(scene, first).get(f"{_KEYS}late") is None


@in_both_lines
def test_with_etcdguard_a_wiped_member_that_starts_as_new_stays_outside(scene: Scene) -> None:
    cluster = scene.cluster
    first, second, wiped = cluster.names
    cluster.stop()
    scene.run(scene.plan(), first, second)
    shutil.rmtree(cluster.data_dir(wiped))

    cluster.start_all()  # with the flags of the old cluster, as a unit or a manifest has them
    cluster.wait_healthy(names=[first, second])

    _wait_for_log(scene, "cluster ID mismatch", first, wiped)
    _assert_two_serve_and_one_is_outside(scene, wiped)


@in_both_lines
def test_with_etcdguard_a_wiped_member_that_starts_as_existing_gets_all_the_data(scene: Scene) -> None:
    """It asks the others for the ids and so joins as the member that was planned, which is no harm."""
    cluster = scene.cluster
    first, second, wiped = cluster.names
    cluster.stop()
    scene.run(scene.plan(), first, second)
    shutil.rmtree(cluster.data_dir(wiped))

    cluster.start_member(first)
    cluster.start_member(second)
    cluster.wait_healthy(names=[first, second])
    cluster.start_member(wiped, "--initial-cluster-state=existing")
    cluster.wait_healthy()
    scene.etcdctl.run("put", f"{_KEYS}after", "accepted by all three")
    _wait_for_same_index(scene)

    assert [_keys(scene, name) for name in cluster.names] == [len(scene.history.live) + 1] * 3
    assert len(set(scene.etcdctl.hash_kv().values())) == 1


# -- steps -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Endpoint:
    client_urls: tuple[str, ...]
    tls: TlsFiles | None = None


def _etcdctl(scene: Scene, *names: str) -> Etcdctl:
    urls = tuple(map(scene.cluster.client_url, names))
    return Etcdctl(scene.programs.etcdctl, _Endpoint(urls))


def _restore_by_hand(scene: Scene, folder: Path, *names: str) -> None:
    """What etcd's documentation says to do, with the token the cluster has had all along."""
    cluster = scene.cluster
    snapshot = folder / "by-hand.db"
    snapshot.write_bytes(scene.snapshot)
    for name in names:
        shutil.rmtree(cluster.data_dir(name))
        argv = [
            str(scene.programs.restore.path),
            "snapshot",
            "restore",
            str(snapshot),
            f"--name={name}",
            f"--data-dir={cluster.data_dir(name)}",
            f"--initial-cluster={cluster.initial_cluster}",
            f"--initial-cluster-token={cluster.token}",
            f"--initial-advertise-peer-urls={cluster.peer_url(name)}",
        ]
        subprocess.run(argv, env={"ETCDCTL_API": "3"}, check=True, capture_output=True)


def _status(scene: Scene, name: str) -> Any:
    return _etcdctl(scene, name).json("endpoint", "status")[0]["Status"]


def _keys(scene: Scene, name: str, *, consistency: str = "s") -> int:
    """How many keys that member itself has below ``_KEYS``."""
    answer = _etcdctl(scene, name).json(
        "get", _KEYS, "--prefix", "--keys-only", f"--consistency={consistency}"
    )
    return int(answer.get("count", 0))


def _wait_for_same_index(scene: Scene) -> None:
    """Until all members have applied the same raft log: what differs then will differ for ever."""

    def is_same() -> bool:
        found = [_status(scene, name) for name in scene.cluster.names]
        return len({one[which] for one in found for which in ("raftIndex", "raftAppliedIndex")}) == 1

    eventually(is_same, "the members have applied the same log")


def _begin_logs(scene: Scene) -> None:
    """What the members said while they were stopped for the restore is not about what follows."""
    for name in scene.cluster.names:
        scene.cluster.log_path(name).write_text("")


def _assert_nobody_complains(scene: Scene) -> None:
    """One cluster by its own account: three voters, one leader, healthy, no alarm, no error in a log."""
    cluster = scene.cluster
    assert len(scene.etcdctl.json("member", "list")["members"]) == 3
    statuses = [_status(scene, name) for name in cluster.names]
    assert len({one["header"]["cluster_id"] for one in statuses}) == 1
    assert len({one["leader"] for one in statuses}) == 1
    assert all(one["health"] for one in scene.etcdctl.json("endpoint", "health"))
    assert scene.etcdctl.run("alarm", "list") == ""
    for name in cluster.names:
        assert cluster.pid(name) is not None
        log = cluster.log_path(name).read_text()
        for word in ('"level":"error"', '"level":"fatal"', "panic", "corrupt alarm", "cluster ID mismatch"):
            assert not [line for line in log.splitlines() if word in line], name


def _assert_two_serve_and_one_is_outside(scene: Scene, outside: str) -> None:
    """The restored two agree and take writes; the third has no leader, no vote, and serves nothing."""
    pair = [name for name in scene.cluster.names if name != outside]
    inside = _etcdctl(scene, *pair)
    inside.run("put", f"{_KEYS}after", "accepted by two")
    wait_applied(inside, inside.revision())
    assert inside.revision() == scene.history.revision + 1
    assert len(set(inside.hash_kv().values())) == 1
    statuses = [_status(scene, name) for name in pair]
    assert {one["leader"] for one in statuses} <= {one["header"]["member_id"] for one in statuses}
    assert len({one["leader"] for one in statuses}) == 1

    # It waits for a leader of a cluster that nobody else is in, and answers not even a local read until then.
    assert scene.cluster.pid(outside) is not None
    alone = _etcdctl(scene, outside)
    for asked in (
        ("endpoint", "health"),
        ("get", f"{_KEYS}after", "--consistency=s"),
        ("put", f"{_KEYS}outside", "must not be taken"),
    ):
        with pytest.raises(AssertionError, match=r"deadline exceeded|unhealthy|no leader"):
            alone.run("--command-timeout=2s", *asked)
    assert inside.get(f"{_KEYS}outside") is None


def _wait_for_log(scene: Scene, text: str, *names: str) -> None:
    """Until one of those members has said so."""
    eventually(
        lambda: any(text in scene.cluster.log_path(name).read_text() for name in names),
        f"one of {names} says {text!r}",
    )
