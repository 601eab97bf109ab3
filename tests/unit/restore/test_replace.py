"""Replacing a member: what comes next, what speaks against it, and what happens to the files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, Locked, Refused, UsageError
from etcdguard.etcd.wal import WalMetadata, read_wal_metadata
from etcdguard.model import ClusterTopology
from etcdguard.restore.journal import exclusive
from etcdguard.restore.plan import ServiceSpec
from etcdguard.restore.planner import MemberSpec
from etcdguard.restore.replace import directories
from etcdguard.restore.replace.plan import ReplacePlan, next_step, step_texts
from etcdguard.restore.replace.run import begun, replace_member
from etcdguard.restore.replace.survey import survey
from tests.support.restores import SteppingClock
from tests.unit.restore.replacing import (
    ADDED,
    DONE,
    JOINED,
    NEW,
    REMOVED,
    WHOLE,
    World,
    member,
    topology,
    url,
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# -- planning --------------------------------------------------------------------------------------------


def test_the_configuration_has_the_last_word_and_the_cluster_the_first(world: World) -> None:
    told = world.plan(spec=None, data_dir="/data/etcd/", wal_dir="/wal")
    assert told.member.peer_urls == (url("m3", 2380),)
    assert told.member.client_urls == (url("m3", 2379),)
    assert [aside.directory for aside in told.asides] == ["/data/etcd", "/wal"]
    assert told.asides[1].kept == f"/wal.before-{told.id}"
    assert told.old_member_id == "a3"
    assert told.endpoints == world.endpoints

    moved = MemberSpec(
        "m3", ("https://[0:0::7]:2380/",), service=ServiceSpec(kind="systemd", unit="etcd.service")
    )
    plan = world.plan(spec=moved, is_here=lambda _: False)
    assert plan.member.peer_urls == ("https://[::7]:2380",)
    assert plan.member.client_urls == (url("m3", 2379),)
    assert plan.member.data_dir == "/var/lib/etcd"
    assert "is this m3's host?" in plan.notes[0]
    assert len(plan.notes) == 1


def test_a_member_that_is_removed_already_needs_the_configuration(world: World) -> None:
    assert world.plan(REMOVED).old_member_id is None
    with pytest.raises(UsageError, match="no member 'm3'; there are m1, m2") as error:
        world.plan(REMOVED, spec=None)
    assert "peer_urls" in error.value.hint


def test_a_learner_is_not_replaced(world: World) -> None:
    with pytest.raises(Refused, match="m3 is a learner"):
        world.plan(JOINED)


def test_the_plan_survives_its_file(world: World) -> None:
    plan = world.plan()
    assert ReplacePlan.model_validate_json(plan.model_dump_json()) == plan
    assert step_texts(plan)[0][0] == "stop"
    assert "wait until you have started etcd" in dict(step_texts(plan))["start"]


OURS = WalMetadata(NEW, "cafe")


@pytest.mark.parametrize(
    ("seen", "ids", "occupied", "step"),
    [
        (WHOLE, None, True, "remove"),
        (WHOLE, WalMetadata("a3", "cafe"), True, "remove"),
        (REMOVED, WalMetadata("a3", "cafe"), True, "set-aside"),
        (REMOVED, None, True, "set-aside"),
        (REMOVED, None, False, "add"),
        (ADDED, None, False, "seed"),
        (ADDED, WalMetadata("a3", "cafe"), True, "set-aside"),
        (ADDED, WalMetadata(NEW, "beef"), True, "set-aside"),
        (ADDED, OURS, True, "start"),
        (JOINED, OURS, True, "promote"),
        (DONE, OURS, True, "verify"),
    ],
)
def test_the_next_step_follows_from_what_is(
    world: World, seen: ClusterTopology, ids: WalMetadata | None, occupied: bool, step: str
) -> None:
    assert next_step(world.plan(), seen, ids, occupied=occupied) == step


def test_a_member_lost_again_is_not_wiped_again(world: World) -> None:
    with pytest.raises(Refused, match="had joined as e3") as refusal:
        next_step(world.plan(), DONE, None, occupied=False)
    assert "replace-m3.jsonl" in refusal.value.hint


# -- files -----------------------------------------------------------------------------------------------


def test_files_are_moved_and_the_directory_stays(world: World) -> None:
    plan = world.plan()
    inode = world.data_dir.stat().st_ino
    assert directories.occupied(plan)

    directories.set_aside(plan, root=False)
    assert not directories.occupied(plan)
    directories.seed(plan, OURS, root=False)

    kept = Path(f"{world.data_dir}.before-{plan.id}")
    assert (kept / "member" / "old").read_text() == "old data"
    assert world.data_dir.stat().st_ino == inode
    assert [path.name for path in world.data_dir.iterdir()] == ["member"]
    assert (world.data_dir / "member").stat().st_mode & 0o777 == 0o700
    assert directories.found_ids(plan.member, read_wal_metadata) == OURS


def test_an_absent_directory_is_made(world: World) -> None:
    plan = world.plan(data_dir=str(world.data_dir.parent / "new"))
    assert directories.found_ids(plan.member, read_wal_metadata) is None
    directories.set_aside(plan, root=False)
    directories.seed(plan, OURS, root=False)
    assert Path(plan.member.data_dir).stat().st_mode & 0o777 == 0o700
    assert directories.found_ids(plan.member, read_wal_metadata) == OURS


def test_a_mount_points_contents_stay_on_it(world: World) -> None:
    (world.data_dir / "lost+found").mkdir()
    world.mounts.add(world.data_dir)
    plan = world.plan()
    assert not list(directories.check(plan, world.machine))

    directories.set_aside(plan, root=False)

    assert (world.data_dir / f"before-{plan.id}" / "member" / "old").exists()
    assert (world.data_dir / "lost+found").exists()
    assert not directories.occupied(plan)


def test_a_separate_log_is_begun_in_its_place(world: World) -> None:
    wal = world.data_dir.parent / "wal"
    wal.mkdir()
    (wal / "0000000000000000-0000000000000000.wal").write_bytes(b"old log")
    plan = world.plan(wal_dir=str(wal))

    directories.set_aside(plan, root=False)
    directories.seed(plan, OURS, root=False)

    assert [path.name for path in wal.iterdir()] == ["0000000000000000-0000000000000000.wal"]
    assert read_wal_metadata(wal) == OURS
    assert list(world.data_dir.iterdir()) == []


def test_moves_and_seeds_that_were_cut_off_go_on(world: World) -> None:
    plan = world.plan()
    (world.data_dir / "proxy").mkdir()
    kept = Path(plan.asides[0].kept)
    kept.mkdir()
    (world.data_dir / "member").rename(kept / "member")

    directories.set_aside(plan, root=False)
    assert sorted(path.name for path in kept.iterdir()) == ["member", "proxy"]

    torn = world.data_dir / f"member.etcdguard-{plan.id}"
    (torn / "wal").mkdir(parents=True)
    assert not directories.occupied(plan)
    directories.seed(plan, OURS, root=False)
    assert not torn.exists()
    assert directories.found_ids(plan.member, read_wal_metadata) == OURS


def test_nothing_kept_is_overwritten(world: World) -> None:
    plan = world.plan()
    (Path(plan.asides[0].kept) / "member").mkdir(parents=True)

    with pytest.raises(Refused, match="is in the way"):
        directories.set_aside(plan, root=False)

    assert (world.data_dir / "member" / "old").exists()


# -- preflight -------------------------------------------------------------------------------------------


def test_a_lost_member_may_be_replaced(world: World) -> None:
    assert world.findings() == []


def test_what_speaks_against_it_is_found_at_once(world: World) -> None:
    world.cluster.now = topology(*WHOLE.members, member("m4", learner=True))
    world.cluster.up = {"m1", "m3"}
    (world.data_dir / "member").rename(world.data_dir / "precious")
    assert world.service is not None
    world.service.problem = Refused("etcd.service is masked", hint="unmask it")

    messages = [error.message for error in world.findings()]

    assert messages == [
        "without m3, 2 of 2 members must run, and these do not answer: m2",
        "the cluster has a learner already, m4, and takes one at a time",
        f"m3 runs: it answers at {url('m3', 2379)}",
        f"{world.data_dir} holds something that is not etcd's",
        "etcd.service is masked",
    ]


def test_an_unknown_owner_is_found_before_anything_changes(world: World) -> None:
    service = ServiceSpec(kind="systemd", unit="etcd.service", user="nobody-of-that-name")
    spec = MemberSpec("m3", (url("m3", 2380),), data_dir=str(world.data_dir), service=service)
    world.machine = dataclasses.replace(world.machine, uid=0)

    (refusal,) = world.findings(world.plan(spec=spec))

    assert "no user 'nobody-of-that-name'" in refusal.message


def test_a_member_in_another_cluster_is_lost_to_this_one(world: World) -> None:
    world.cluster.up.add("m3")
    world.cluster.clusters["m3"] = "beef"

    assert world.findings() == []


def test_whoever_is_not_listed_any_more_cannot_be_found_running(world: World) -> None:
    """What answers at its URL may be anybody: its address may have been given away."""
    world.cluster.up.add("m3")
    assert [error.message for error in world.findings()] == [f"m3 runs: it answers at {url('m3', 2379)}"]
    world.cluster.now = REMOVED
    assert world.findings(world.plan(REMOVED)) == []


def test_the_operator_stops_what_no_service_does(world: World) -> None:
    world.service = None
    assert world.findings() == []

    world.listening.add(("10.0.0.3", 2380))
    world.holders = ("etcd (pid 7)",)
    messages = [error.message for error in world.findings()]
    assert "something listens at http://10.0.0.3:2380" in messages[0]
    assert messages[1] == f"etcd (pid 7) uses {world.data_dir}"

    world.cluster.now = ADDED
    assert world.findings(world.plan(), resumed=True) == []


def test_another_members_directory_is_recognised(world: World) -> None:
    plan = world.plan()
    directories.set_aside(plan, root=False)
    directories.seed(plan, WalMetadata("a2", "cafe"), root=False)

    (refusal,) = world.findings(plan)

    assert "holds the data of m2" in refusal.message


def test_its_own_word_for_itself_is_not_asked(world: World) -> None:
    world.cluster.up.add("m3")
    seen = survey(world.cluster, (url("m3", 2379), *world.endpoints), "m3")
    assert seen.endpoint == url("m1", 2379)

    world.cluster.clusters["m3"] = "beef"  # wiped, and started as a cluster of its own
    assert survey(world.cluster, (url("m3", 2379), *world.endpoints), "m3").topology == WHOLE

    with pytest.raises(Refused, match="no quorum answers besides m3: no other member is known"):
        survey(world.cluster, (url("m3", 2379),), "m3")


def test_two_clusters_and_no_quorum_are_refused(world: World) -> None:
    world.cluster.clusters["m2"] = "beef"
    with pytest.raises(Refused, match="different clusters: beef, cafe"):
        survey(world.cluster, world.endpoints, "m3")

    world.cluster.quorum = False
    with pytest.raises(Refused, match=r"no quorum answers besides m3: .*no leader") as refusal:
        survey(world.cluster, world.endpoints, "m3")
    assert refusal.value.exit_code == 15
    assert "etcdguard restore" in refusal.value.hint


# -- running ---------------------------------------------------------------------------------------------


def test_one_step_after_the_other(world: World) -> None:
    plan = world.plan()

    result = replace_member(plan, world.environment())

    assert world.cluster.calls == ["remove", "add", "promote"]
    assert world.service is not None
    assert world.service.calls == ["stop", "start"]
    assert (result.old_member_id, result.member_id) == ("a3", NEW)
    assert result.kept == (plan.asides[0].kept,)
    assert result.verified.endswith("on all 3")
    assert list(result.seconds) == [step for step, _ in step_texts(plan)]
    assert [path.name for path in world.state_dir.iterdir()] == ["lock"]
    assert begun("m3", world.state_dir, SteppingClock()) is None


def test_refusals_that_pass_are_waited_for_and_lost_answers_are_found_out(world: World) -> None:
    busy = ClusterUnhealthy("etcd cannot serve: unhealthy cluster", hint="wait")
    world.cluster.refusals = [busy, busy, busy]

    replace_member(world.plan(), world.environment())
    assert world.cluster.calls == ["remove"] * 4 + ["add", "promote"]

    lost = World(world.data_dir.parent / "again")
    change = lost.cluster.add_learner

    def answer_lost(endpoint: str, peer_urls: Sequence[str]) -> str:
        change(endpoint, peer_urls)
        raise EtcdUnreachable("reset", hint="try again")

    lost.cluster.add_learner = answer_lost  # type: ignore[method-assign]
    replace_member(lost.plan(), lost.environment())
    assert lost.cluster.calls == ["remove", "add", "promote"]


def test_what_stays_refused_is_told_and_can_be_gone_on_with(world: World) -> None:
    world.cluster.refusals = [ClusterUnhealthy("unhealthy cluster", hint="wait")] * 1000
    plan = world.plan()
    with pytest.raises(ClusterUnhealthy, match="unhealthy cluster"):
        replace_member(plan, world.environment())

    assert begun("m3", world.state_dir, SteppingClock()) == plan
    world.cluster.refusals = []
    assert replace_member(plan, world.environment()).member_id == NEW


def test_without_a_service_the_operator_is_told_once(world: World) -> None:
    service, world.service = world.service, None
    assert service is not None

    def tell(line: str) -> None:
        world.told.append(line)
        service.start()

    replace_member(world.plan(), world.environment(tell=tell))

    (line,) = world.told
    assert line.startswith("start etcd on this machine now")


def test_members_that_differ_are_not_called_replaced(world: World) -> None:
    world.cluster.hashes["m3"] = 8

    with pytest.raises(ClusterUnhealthy, match=r"do not hold the same data: .*m3 00000008") as error:
        replace_member(world.plan(), world.environment())

    assert error.value.exit_code == 5
    assert begun("m3", world.state_dir, SteppingClock()) is not None


def test_a_plan_for_another_cluster_changes_nothing(world: World) -> None:
    plan = world.plan().model_copy(update={"cluster_id": "beef"})
    with pytest.raises(Refused, match="the plan is for cluster beef, and cafe answers"):
        replace_member(plan, world.environment())
    assert world.cluster.calls == []
    assert (world.data_dir / "member" / "old").exists()


def test_one_at_a_time_on_one_machine(world: World) -> None:
    with exclusive(world.state_dir / "lock", patience=0, doing="a test"), pytest.raises(Locked):
        replace_member(world.plan(), world.environment())


def test_a_torn_plan_is_refused_with_its_file(world: World) -> None:
    world.state_dir.mkdir()
    (world.state_dir / "replace-a%2Fb.jsonl").write_text('{"event": "planned", "plan": "{}"}\n')
    with pytest.raises(Refused, match="is not a replacement's plan"):
        begun("a/b", world.state_dir, SteppingClock())
