"""Real etcd: a snapshot becomes a healthy cluster of three, or nothing changes."""

from __future__ import annotations

from pathlib import Path

import etcd3.exceptions
import pytest

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.plan import read_plan, write_plan
from etcdguard.restore.planner import KUBERNETES_BUMP
from tests.integration.restore.conftest import Scene
from tests.support.etcd_versions import programs
from tests.support.fixtures_etcd import each_etcd_version
from tests.support.load import connect
from tests.support.waiting import eventually


def _restart(scene: Scene) -> None:
    scene.cluster.start_all()
    scene.cluster.wait_healthy()


def _assert_whole(scene: Scene) -> None:
    """Three voters that agree, and every key of the history, leases and deletes included."""
    members = scene.etcdctl.json("member", "list")["members"]
    assert sorted(member["name"] for member in members) == list(scene.cluster.names)
    assert not any(member.get("isLearner", False) for member in members)
    assert len(set(scene.etcdctl.hash_kv().values())) == 1
    with connect(scene.cluster) as client:
        found = {meta.key.decode(): value.decode() for value, meta in client.get_prefix("/registry/pods/")}
        assert found == scene.history.live
        assert client.get_lease_info(scene.history.lease_id).TTL > 0


@each_etcd_version
def test_three_members_come_back_with_the_history(scene: Scene) -> None:
    scene.etcdctl.run("put", "/registry/pods/late", "written after the snapshot")
    scene.cluster.stop()
    plan = scene.plan()

    scene.run(plan)
    _restart(scene)

    _assert_whole(scene)
    assert scene.etcdctl.revision() == scene.history.revision == plan.revision
    assert scene.etcdctl.hash_kv(scene.history.revision) == scene.hashes
    header = scene.etcdctl.json("endpoint", "status")[0]["Status"]["header"]
    assert format(header["cluster_id"], "x") == plan.cluster_id != scene.manifest.cluster.cluster_id
    assert [event["cluster_id"] for event in scene.events] == [plan.cluster_id]
    for member in plan.members:
        assert (Path(member.kept_dir) / "member" / "snap" / "db").exists()
        leftovers = [path.name for path in Path(member.data_dir).parent.iterdir() if "etcdguard" in path.name]
        assert leftovers == []


@each_etcd_version
def test_a_bump_lifts_the_revision_and_hides_what_is_below(scene: Scene) -> None:
    scene.cluster.stop()
    if not scene.programs.restore.can_bump_revision:
        with pytest.raises(Refused, match="cannot bump revisions"):
            scene.plan(bump=1000)
        return
    kubernetes = scene.manifest.cluster.model_copy(update={"kubernetes": True})
    plan = scene.plan(manifest=scene.manifest.model_copy(update={"cluster": kubernetes}))
    assert plan.revision == scene.history.revision + KUBERNETES_BUMP

    scene.run(plan)
    _restart(scene)

    _assert_whole(scene)
    assert scene.etcdctl.revision() == plan.revision
    key = next(iter(scene.history.live))
    with pytest.raises(AssertionError, match="required revision has been compacted"):
        scene.etcdctl.run("get", key, f"--rev={scene.history.revision}")


@pytest.mark.parametrize("etcd_binaries", ["3.4"], indirect=True)
def test_etcdutl_of_3_5_restores_for_3_4_and_can_bump(scene: Scene) -> None:
    scene.cluster.stop()
    tool = programs("3.5").restore
    plan = scene.plan(tool, bump=1000)

    scene.run(plan, tool=tool)
    _restart(scene)

    _assert_whole(scene)
    assert scene.etcdctl.revision() == scene.history.revision + 1000


def test_hosts_that_share_a_plan_file_make_one_cluster_with_separate_wals(
    scene: Scene, tmp_path: Path
) -> None:
    scene.cluster.stop()
    wals = {name: tmp_path / "wal" / name for name in scene.cluster.names}
    (tmp_path / "wal").mkdir()
    file = write_plan(scene.plan(wal_dirs={name: str(path) for name, path in wals.items()}))

    for name in scene.cluster.names:
        scene.run(read_plan(file), name)

    for name, path in wals.items():
        assert list(path.glob("*.wal"))
        scene.cluster.start_member(name, f"--wal-dir={path}")
    scene.cluster.wait_healthy()
    _assert_whole(scene)


def test_a_member_with_the_old_data_cannot_join(scene: Scene) -> None:
    scene.cluster.stop()
    first, second, stale = scene.cluster.names
    scene.run(scene.plan(), first, second)

    scene.cluster.start_all()
    scene.cluster.wait_healthy(names=[first, second])

    _wait_for(scene.cluster.log_path(first), "cluster ID mismatch")
    with connect(scene.cluster, first) as client:
        assert {member.name for member in client.members} == set(scene.cluster.names)
    with connect(scene.cluster, stale) as client, pytest.raises(etcd3.exceptions.Etcd3Exception):
        client.put("/registry/pods/stale", "must not be taken")


def test_a_live_cluster_is_refused_and_not_touched(scene: Scene) -> None:
    with pytest.raises(Refused) as refusal:
        scene.run(scene.plan())

    assert "answers with a quorum behind it" in refusal.value.message
    assert "member replace" in refusal.value.hint
    assert "etcd (pid " in refusal.value.message
    assert not any("before" in path.name for path in scene.cluster.base.rglob("*") if path.is_dir())
    scene.cluster.wait_healthy()


def test_one_member_alive_without_quorum_does_not_count_as_a_cluster(scene: Scene) -> None:
    first, second, third = scene.cluster.names
    scene.cluster.kill(first, second)
    plan = scene.plan()

    scene.run(plan, first, second)

    with pytest.raises(Refused, match=f"something listens at .*{third} would"):
        scene.run(plan, third)


def test_a_snapshot_that_the_tool_rejects_leaves_everything_as_it_was(scene: Scene) -> None:
    scene.cluster.stop()
    broken = bytearray(scene.snapshot)
    broken[len(broken) // 2] ^= 1
    before = sorted(scene.cluster.base.rglob("*"))

    with pytest.raises(EtcdGuardError, match=r"sha256|checksum|hash"):
        scene.run(scene.plan(), fetch=lambda: iter([bytes(broken)]))

    assert sorted(scene.cluster.base.rglob("*")) == before
    _restart(scene)
    assert scene.etcdctl.revision() == scene.history.revision


def _wait_for(log: Path, text: str) -> None:
    eventually(lambda: text in log.read_text(), f"{log.name} says {text!r}")
