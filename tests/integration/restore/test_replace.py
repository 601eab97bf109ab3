"""Real etcd of every version: one member is lost, and made anew from the others."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from etcdguard.app import SystemClock
from etcdguard.errors import ClusterUnhealthy, Refused
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.wal import WalMetadata, first_segment, read_wal_metadata
from etcdguard.model import ClusterTopology
from etcdguard.progress import Progress
from etcdguard.restore.machine import LOCAL
from etcdguard.restore.planner import MemberSpec
from etcdguard.restore.preflight import raise_all
from etcdguard.restore.replace.environment import ReplaceEnvironment
from etcdguard.restore.replace.plan import ReplacePlan, make_plan
from etcdguard.restore.replace.preflight import check_ready
from etcdguard.restore.replace.run import ReplaceResult, begun, replace_member
from etcdguard.restore.replace.survey import Survey, first_survey
from etcdguard.restore.services import Patience
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.faulty_store import SimulatedCrash
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import connect, write_history, write_load
from tests.support.replaces import ClusterService, CrashAtPhase, CrashingAdmin
from tests.support.restores import NOW
from tests.support.waiting import eventually


@dataclass
class Scene:
    """A cluster, one of its members to be lost, and a way to replace it as if on its host."""

    cluster: LocalCluster
    programs: EtcdPrograms
    client: CrashingAdmin
    state_dir: Path
    name: str
    wal_dir: Path | None = None
    patience: float = 60.0
    """Seconds for an election."""

    @property
    def data_dir(self) -> Path:
        return self.cluster.data_dir(self.name)

    @property
    def others(self) -> tuple[str, ...]:
        return tuple(name for name in self.cluster.names if name != self.name)

    @property
    def etcdctl(self) -> Etcdctl:
        return Etcdctl(self.programs.etcdctl, self.cluster)

    def service(self, *flags: str) -> ClusterService:
        return ClusterService(self.cluster, self.name, *flags)

    def lose(self, *, wipe: bool = True) -> None:
        self.cluster.kill(self.name)
        if wipe:
            shutil.rmtree(self.data_dir)

    def survey(self) -> Survey:
        patience = Patience(self.patience, time.monotonic, time.sleep)
        return first_survey(self.client, self.cluster.client_urls, self.name, patience)

    def plan(self, topology: ClusterTopology, data_dir: Path | None = None) -> ReplacePlan:
        return make_plan(
            self.name,
            MemberSpec(self.name, (self.cluster.peer_url(self.name),), (self.cluster.client_url(self.name),)),
            topology,
            cluster_name="prod",
            data_dir=str(data_dir or self.data_dir),
            wal_dir=None if self.wal_dir is None else str(self.wal_dir),
            node="here",
            is_mount=LOCAL.is_mount,
            is_here=lambda _: True,
            now=NOW,
            token_hex=secrets.token_hex,
        )

    def replace(
        self,
        service: ClusterService,
        *,
        data_dir: Path | None = None,
        progress: Progress | None = None,
    ) -> ReplaceResult:
        """Everything the command does, in its order."""
        clock = SystemClock()
        earlier = begun(self.name, self.state_dir, clock)
        seen = self.survey()
        plan = earlier or self.plan(seen.topology, data_dir)
        environment = ReplaceEnvironment(
            cluster=self.client,
            endpoints=self.cluster.client_urls,
            service=service,
            state_dir=self.state_dir,
            clock=clock,
            sleep=time.sleep,
            tell=pytest.fail,
        )
        raise_all(list(check_ready(plan, seen.topology, environment, resumed=earlier is not None)))
        if progress is not None:
            environment = replace(environment, progress=progress)
        return replace_member(plan, environment)

    def assert_whole(self) -> None:
        """As many started voters as there were, and equal data on all."""
        members = self.etcdctl.json("member", "list")["members"]
        assert sorted(member["name"] for member in members) == sorted(self.cluster.names)
        assert not any(member.get("isLearner", False) for member in members)
        self.cluster.wait_healthy()  # each has applied what was written
        assert len(set(self.etcdctl.hash_kv().values())) == 1


@pytest.fixture
def scene(cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, tmp_path: Path) -> Iterator[Scene]:
    cluster = cluster_factory()
    options = ConnectionOptions(cluster.client_urls, command_timeout=60.0)
    with CrashingAdmin(options) as client:
        yield Scene(cluster, etcd_binaries, client, tmp_path / "state", cluster.names[0])


def _only_itself(scene: Scene) -> str:
    """The flag of a cluster's first kubeadm node: started anew with it, etcd makes a cluster of its own."""
    return f"--initial-cluster={scene.name}={scene.cluster.peer_url(scene.name)}"


@each_etcd_version
def test_a_lost_member_comes_back_under_load_whatever_its_flags_say(scene: Scene) -> None:
    write_history(scene.cluster)
    service = scene.service(_only_itself(scene), "--initial-cluster-state=new")
    before = {one["name"]: one["ID"] for one in scene.etcdctl.json("member", "list")["members"]}
    with write_load(scene.cluster) as load:
        scene.lose()
        result = scene.replace(service)

    scene.cluster.wait_healthy()
    scene.assert_whole()
    after = {one["name"]: one["ID"] for one in scene.etcdctl.json("member", "list")["members"]}
    assert int(result.member_id, 16) == after[scene.name] != before[scene.name]
    assert {name: after[name] for name in scene.others} == {name: before[name] for name in scene.others}
    assert result.verified.endswith("on all 3")
    assert result.kept == ()
    assert list(result.seconds) == ["stop", "remove", "add", "seed", "start", "promote", "verify"]
    assert load.acknowledged
    with connect(scene.cluster, scene.name) as client:
        found = {meta.key.decode(): value.decode() for value, meta in client.get_prefix(load.prefix)}
    assert load.acknowledged.items() <= found.items()
    assert list(scene.state_dir.iterdir()) == [scene.state_dir / "lock"]


@each_etcd_version
def test_left_to_its_flags_a_wiped_member_leaves_or_serves_nothing(scene: Scene) -> None:
    """Why the log is begun by us: this is what real etcd does with a unit that says `new`."""
    write_history(scene.cluster)
    scene.lose()
    seen = scene.survey()
    plan = scene.plan(seen.topology)
    assert plan.old_member_id is not None
    scene.client.remove_member(seen.endpoint, plan.old_member_id)
    member_id = ""

    def is_added() -> bool:
        nonlocal member_id
        try:
            member_id = scene.client.add_learner(seen.endpoint, plan.member.peer_urls)
        except ClusterUnhealthy:
            return False
        return True

    eventually(is_added, "it is announced")

    scene.cluster.start_member(scene.name)
    eventually(lambda: scene.cluster.pid(scene.name) is None, "it has left as a removed member")
    assert read_wal_metadata(scene.data_dir / "member" / "wal").member_id == plan.old_member_id

    shutil.rmtree(scene.data_dir)
    scene.cluster.start_member(scene.name, _only_itself(scene))
    scene.cluster.wait_healthy(names=[scene.name])
    with connect(scene.cluster, scene.name) as client:
        assert list(client.get_all()) == []  # healthy, and empty
    scene.cluster.kill(scene.name)

    shutil.rmtree(scene.data_dir)
    scene.cluster.start_member(scene.name, "--initial-cluster-state=existing")
    scene.cluster.wait_healthy(names=scene.others)
    segment = scene.data_dir / "member" / "wal" / "0000000000000000-0000000000000000.wal"
    eventually(segment.exists, "its log has begun")
    ours = first_segment(WalMetadata(member_id, plan.cluster_id))
    assert segment.read_bytes().startswith(ours)  # what we write is what etcd writes when it joins


@pytest.mark.parametrize("separate_wal", [False, True], ids=["one directory", "separate wal"])
def test_what_was_there_is_kept(scene: Scene, tmp_path: Path, separate_wal: bool) -> None:
    write_history(scene.cluster)
    if separate_wal:
        scene.wal_dir = tmp_path / "wal"
        scene.cluster.kill(scene.name)
        (scene.data_dir / "member" / "wal").rename(scene.wal_dir)
    flags = [f"--wal-dir={scene.wal_dir}"] if separate_wal else []
    scene.lose(wipe=False)
    old = (scene.data_dir / "member" / "snap" / "db").read_bytes()

    result = scene.replace(scene.service(*flags))

    scene.assert_whole()
    assert [Path(kept).parent for kept in result.kept] == [
        path.parent for path in (scene.data_dir, scene.wal_dir) if path is not None
    ]
    assert (Path(result.kept[0]) / "member" / "snap" / "db").read_bytes() == old
    assert all(f".before-{result.plan_id}" in kept for kept in result.kept)


def test_a_member_far_behind_gets_a_snapshot(
    cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, tmp_path: Path
) -> None:
    cluster = cluster_factory(extra_args=("--snapshot-count=100",))
    with connect(cluster) as client:
        for number in range(6000):  # etcd keeps 5000 entries for those who lag
            client.put("/counter", str(number))
    with CrashingAdmin(ConnectionOptions(cluster.client_urls, command_timeout=60.0)) as client:
        scene = Scene(cluster, etcd_binaries, client, tmp_path / "state", cluster.names[2])
        scene.lose()
        scene.replace(scene.service())
        scene.assert_whole()
    with connect(cluster, scene.name) as client:
        assert client.get("/counter")[0] == b"5999"
    assert "received and saved database snapshot" in cluster.log_path(scene.name).read_text()


def test_a_run_cut_off_at_any_step_is_finished_by_the_next(scene: Scene) -> None:
    write_history(scene.cluster)
    scene.lose(wipe=False)
    service = scene.service(_only_itself(scene))
    steps = ["stop", "remove", "set-aside", "add", "seed", "start", "promote", "verify"]
    for step in steps:
        with pytest.raises(SimulatedCrash):
            scene.replace(service, progress=CrashAtPhase(step))
        if step in ("remove", "add", "promote"):
            scene.client.deadly = step
            with pytest.raises(SimulatedCrash, match=f"after {step}"):
                scene.replace(service)
            scene.client.deadly = None

    result = scene.replace(service)

    scene.assert_whole()
    assert list(result.seconds) == ["verify"]
    assert service.calls.count("start") == 1
    assert len(result.kept) == 1
    assert begun(scene.name, scene.state_dir, SystemClock()) is None


def test_a_member_that_runs_is_not_lost(scene: Scene) -> None:
    with pytest.raises(Refused, match="runs: it answers at") as refusal:
        scene.replace(scene.service())
    assert refusal.value.exit_code == 15
    scene.assert_whole()


def test_without_a_quorum_the_way_is_a_restore(scene: Scene) -> None:
    scene.cluster.kill(*scene.cluster.names[:2])
    scene.patience = 3.0

    with pytest.raises(Refused, match="no quorum answers besides etcd-1") as refusal:
        scene.replace(scene.service())

    assert refusal.value.exit_code == 15
    assert "etcdguard restore" in refusal.value.hint
    assert not scene.state_dir.exists()


def test_another_members_directory_is_not_touched(scene: Scene) -> None:
    scene.lose()
    wrong = scene.cluster.data_dir(scene.others[0])

    with pytest.raises(Refused, match="holds the data of etcd-2"):
        scene.replace(scene.service(), data_dir=wrong)

    scene.cluster.wait_healthy(names=scene.others)
    assert not list(wrong.parent.glob("*.before-*"))


def test_a_member_that_made_a_cluster_of_its_own_is_not_listened_to(scene: Scene) -> None:
    """A wiped first node of kubeadm's starts as an empty cluster, and is the first configured endpoint."""
    write_history(scene.cluster)
    scene.lose()
    scene.cluster.start_member(scene.name, _only_itself(scene))
    scene.cluster.wait_healthy()

    scene.replace(scene.service(_only_itself(scene)))

    scene.assert_whole()
