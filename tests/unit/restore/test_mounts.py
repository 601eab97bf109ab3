"""Data directories that are mount points: seen by each host for itself, when its part of a restore begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError, PartialFailure, Refused
from etcdguard.restore.directories import mount_points
from etcdguard.restore.plan import located
from etcdguard.restore.stage import owner_of
from etcdguard.storage.durable import remove_tree
from tests.unit.restore.fleet import HOSTS, Fleet, lost
from tests.unit.restore.world import World


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """The data directory of cp2 is a file system of its own."""
    fleet = Fleet.make(tmp_path)
    fleet.mounts = frozenset({fleet.data("cp2")})
    (fleet.data("cp2") / "lost+found").mkdir()
    return fleet


def test_the_plan_of_a_machine_names_what_is_inside(tmp_path: Path) -> None:
    world = World.make(tmp_path).with_machine(is_mount=lambda path: path.name == "m2")
    plan, machine = world.plan, world.environment.machine
    data, wal = tmp_path / "data" / "m2", tmp_path / "wal" / "m2"

    mounts = mount_points(plan.members, machine)
    here = located(plan, mounts)

    assert mounts == (str(data), str(wal))
    m2 = here.member("m2")
    assert m2.staging_dir == f"{data}/.etcdguard-{plan.id}"
    assert (m2.kept_dir, m2.kept_wal_dir) == (f"{data}/before-{plan.id}", f"{wal}/before-{plan.id}")
    assert f"--data-dir={data}/.etcdguard-{plan.id}" in m2.argv
    assert f"--wal-dir={wal}/.etcdguard-{plan.id}" in m2.argv
    assert here.members[0] == plan.members[0]
    assert (here.token, here.cluster_id, m2.member_id) == (
        plan.token,
        plan.cluster_id,
        plan.member("m2").member_id,
    )
    assert located(plan, ()) == plan


def test_the_snapshot_of_a_host_is_on_the_mounted_file_system_too(tmp_path: Path) -> None:
    plan = World.make(tmp_path).plan
    data = tmp_path / "data" / "m1"

    here = located(plan, [str(data)])

    assert {member.snapshot_file for member in here.members} == {f"{data}/.etcdguard-{plan.id}.db"}


def test_the_contents_of_a_mount_point_are_swapped_inside_it(fleet: Fleet) -> None:
    done = fleet.run()

    fleet.assert_restored()
    data, inside = fleet.data("cp2"), f"before-{fleet.plan.id}"
    assert sorted(entry.name for entry in data.iterdir()) == [inside, "lost+found", "member"]
    assert (data / inside / "member" / "snap" / "db").read_text() == "old data of m2"
    kept = {member.name: member.kept for member in done.members}
    assert kept["m2"] == (str(data / inside),)
    assert kept["m1"] == (str(fleet.data("cp1").with_name(f"etcd.before-{fleet.plan.id}")),)

    removed = fleet.orchestrator().clean_up()

    assert removed["cp2"] == [str(data / inside)]
    assert sorted(entry.name for entry in data.iterdir()) == ["lost+found", "member"]
    fleet.assert_restored()


@pytest.mark.parametrize("step", ["stage", "swap", "gate", "start"])
def test_a_failure_leaves_a_mount_point_as_it_was(fleet: Fleet, step: str) -> None:
    before = fleet.picture()
    fleet.unprovable = "two members disagree" if step == "start" else None

    def fault(host: str, at: str, when: str) -> None:
        if (host, at, when) == ("cp2", step, "after") and step != "start":
            fleet.fault = lambda *_: None
            raise lost()

    fleet.fault = fault
    with pytest.raises(EtcdGuardError, match="everything was put back"):
        fleet.run()

    assert fleet.picture() == before


def test_a_disk_that_is_missing_after_a_reboot_is_waited_for(fleet: Fleet) -> None:
    before = fleet.picture()
    mounts = fleet.mounts

    def reboots(host: str, step: str, when: str) -> None:
        if (host, step, when) == ("cp2", "swap", "after"):
            fleet.mounts = frozenset()
            raise lost()

    fleet.fault = reboots
    with pytest.raises(PartialFailure):
        fleet.run()
    fleet.fault = lambda *_: None

    with pytest.raises(PartialFailure, match="was a mount point when this restore began"):
        fleet.roll_back()
    _, hosts = fleet.orchestrator().status()
    assert set(hosts) == set(HOSTS)

    fleet.mounts = mounts
    fleet.roll_back()
    assert fleet.picture() == before


def test_a_disk_that_appears_in_the_middle_is_refused(fleet: Fleet) -> None:
    def mounts(host: str, step: str, when: str) -> None:
        if (host, step, when) == ("cp1", "stage", "after"):
            fleet.mounts |= {fleet.data("cp1")}

    fleet.fault = mounts
    with pytest.raises((PartialFailure, Refused), match="something has been mounted on"):
        fleet.run()

    fleet.fault, fleet.mounts = (lambda *_: None), frozenset({fleet.data("cp2")})
    fleet.run()
    fleet.assert_restored()


def test_a_directory_that_is_gone_gets_the_owner_of_the_other_one(tmp_path: Path) -> None:
    member = World.make(tmp_path).plan.member("m2")
    data, wal = member.places
    here = data.target.stat().st_uid, data.target.stat().st_gid
    remove_tree(wal.target)
    assert owner_of(member, wal) == here
    wal.target.mkdir()
    remove_tree(data.target)
    assert owner_of(member, data) == here
    wal.target.rmdir()
    assert owner_of(member, data) is None


def test_a_host_on_its_own_says_where_its_old_data_is(fleet: Fleet) -> None:
    before = fleet.picture()

    (member,) = fleet.part("cp2").run("held").members

    assert member.kept == (f"{fleet.data('cp2')}/before-{fleet.plan.id}",)
    fleet.part("cp2").roll_back()
    assert fleet.picture() == before
