"""A restore over hosts does all of it on all of them, or refuses before anything stops."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import (
    ClusterUnhealthy,
    EtcdGuardError,
    Locked,
    PartialFailure,
    Refused,
    RepositoryError,
    UsageError,
)
from etcdguard.restore.journal import exclusive
from etcdguard.storage.durable import remove_tree
from tests.unit.restore.faults import FORWARD, down
from tests.unit.restore.fleet import HOSTS, Fleet

# -- forward -------------------------------------------------------------------------------------------------


def test_all_members_come_back_on_all_hosts(fleet: Fleet) -> None:
    result = fleet.run()

    fleet.assert_restored()
    assert [member.name for member in result.members] == ["m1", "m2", "m3"]
    assert all(member.kept for member in result.members)
    assert result.hosts == {"cp1": ("m1",), "cp2": ("m2",), "cp3": ("m3",)}
    assert list(result.seconds) == [
        *("preflight", "stage", "quiesce", "barrier", "swap", "gate", "start", "prove", "reopen", "record")
    ]
    assert result.downtime_seconds > 0
    assert result.proof == {"leader": "m1"}
    (event,) = fleet.recorded
    assert event["plan_id"] == fleet.plan.id
    assert event["hosts"] == {"cp1": ["m1"], "cp2": ["m2"], "cp3": ["m3"]}
    kept = [path for path in fleet.picture() if ".before-" in path and path.endswith("db")]
    assert len(kept) == 3
    assert not [path for path in fleet.picture() if ".etcdguard-" in path]


def test_phases_are_barriers_and_clients_of_etcd_go_first(fleet: Fleet) -> None:
    log: list[tuple[str, str]] = []
    fleet.fault = lambda host, step, when: log.append((step, when))

    fleet.run()

    steps = [step for step, when in log if when == "before"]
    assert list(dict.fromkeys(steps)) == ["hello", "preflight", *FORWARD, "reopen"]
    for number, (step, when) in enumerate(log):
        if when == "before":
            earlier = [place for place in log[:number] if place[0] != step]
            assert len([place for place in earlier if place[1] == "before"]) == len(
                [place for place in earlier if place[1] == "after"]
            )


def test_without_services_etcd_is_left_to_the_operator(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, served=False)

    result = fleet.run()

    fleet.assert_restored()
    assert result.proof is None
    assert {"quiesce", "start", "prove"} & set(result.seconds) == set()
    assert not list(tmp_path.rglob("*.running"))


def test_destroyed_members_are_restored_too(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, user=pwd.getpwuid(os.getuid()).pw_name)
    for host in HOSTS:
        remove_tree(fleet.data(host))
    for service in (one for host in HOSTS for one in fleet.services(host).control_plane):
        service.stop()
    fleet.services("cp2").etcd.stop()

    result = fleet.run()

    fleet.assert_restored()
    assert not any(member.kept for member in result.members)


def test_an_owner_that_nothing_tells_is_refused_before_anything_stops(fleet: Fleet) -> None:
    remove_tree(fleet.data("cp2"))
    before = fleet.picture()

    with pytest.raises(
        Refused, match=r"cp2: nothing says which user .*/cp2/data/etcd must belong to"
    ) as refused:
        fleet.run()

    assert "members[].service.user" in refused.value.hint
    assert fleet.picture() == before


def test_a_user_that_a_host_does_not_have_is_refused_before_anything_stops(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, user="etcdguard-no-such-user")
    before = fleet.picture()
    with pytest.raises(Refused, match="etcdguard-no-such-user") as error:
        fleet.run()
    assert "put back" not in error.value.message, "nothing had begun"
    assert fleet.picture() == before


def test_a_restore_that_cannot_be_recorded_stands(fleet: Fleet) -> None:
    class Full(list[Any]):
        def append(self, _: object) -> None:
            raise RepositoryError("the bucket is gone", hint="x")

    fleet.recorded = Full()
    result = fleet.run()
    assert result.record_problem == "the bucket is gone"
    fleet.assert_restored()


def test_a_proven_cluster_is_backed_up_last_of_all(fleet: Fleet) -> None:
    def backup() -> str:
        fleet.assert_restored()
        assert len(fleet.recorded) == 1
        return "fresh"

    fleet.backup = backup
    result = fleet.run()
    assert (result.fresh_backup, result.fresh_backup_problem) == ("fresh", None)
    assert list(result.seconds)[-2:] == ["record", "backup"]


def test_a_restore_whose_backup_fails_stands(fleet: Fleet) -> None:
    def backup() -> str:
        raise RepositoryError("the bucket is full", hint="x")

    fleet.backup = backup
    result = fleet.run()
    assert (result.fresh_backup, result.fresh_backup_problem) == (None, "the bucket is full")
    fleet.assert_restored()
    with pytest.raises(Refused, match="has been carried out"):
        fleet.run()


def test_a_plan_is_carried_out_once(fleet: Fleet) -> None:
    fleet.run()
    with pytest.raises(Refused, match="has been carried out"):
        fleet.run()
    fleet.assert_restored()


def test_another_orchestrator_does_not_repeat_what_is_done(fleet: Fleet) -> None:
    fleet.run()
    (fleet.root / "orchestrator").rename(fleet.root / "gone")
    with pytest.raises(Refused, match="has been carried out here"):
        fleet.run()
    fleet.assert_restored()


def test_the_same_cluster_can_be_restored_again(tmp_path: Path) -> None:
    first = Fleet.make(tmp_path)
    first.run()
    second = Fleet.make_again(first)

    second.run()

    second.assert_restored()
    assert len([path for path in second.picture() if path.endswith(f".before-{second.plan.id}")]) == 3


# -- refusals: nothing is stopped ----------------------------------------------------------------------------


def test_findings_of_all_hosts_are_told_at_once_and_each_once(fleet: Fleet) -> None:
    before = fleet.picture()
    for host in ("cp1", "cp3"):
        (fleet.root / host / "services" / "etcd.service.unknown").touch()

    with pytest.raises(Refused, match=r"cp1, cp3: systemd cannot load etcd\.service"):
        fleet.run()

    for host in ("cp1", "cp3"):
        (fleet.root / host / "services" / "etcd.service.unknown").unlink()
    assert fleet.picture() == before


def test_an_unreachable_host_is_refused_before_anything_stops(fleet: Fleet) -> None:
    before = fleet.picture()
    fleet.fault = down("cp2", "hello", "before")
    with pytest.raises(Refused, match="the connection is lost"):
        fleet.run()
    assert fleet.picture() == before


def test_two_restores_at_once_are_refused(fleet: Fleet) -> None:
    before = fleet.picture()
    with (
        exclusive(fleet.root / "orchestrator" / "orchestrator.lock", patience=0, doing="the test"),
        pytest.raises(Locked, match="at work already"),
    ):
        fleet.run()
    assert fleet.picture() == before


def test_a_host_with_an_unfinished_restore_refuses_another(fleet: Fleet) -> None:
    fleet.fault = down("cp2", "swap", "before")
    with pytest.raises(PartialFailure):
        fleet.run()
    fleet.fault = lambda *_: None
    other = Fleet.make_again(fleet)
    before = fleet.picture()

    with pytest.raises(Refused, match=f"restore {fleet.plan.id} has not ended"):
        other.run()

    assert other.picture() == before
    fleet.run()
    fleet.assert_restored()


def test_members_with_and_without_service_do_not_mix(fleet: Fleet) -> None:
    first, *others = fleet.plan.members
    fleet.plan = fleet.plan.model_copy(
        update={"members": (first.model_copy(update={"service": None}), *others)}
    )
    with pytest.raises(UsageError, match="only m2, m3"):
        fleet.orchestrator()


# -- cleanup and status --------------------------------------------------------------------------------------


def test_cleanup_removes_old_directories_of_a_proven_cluster_only(fleet: Fleet) -> None:
    fleet.fault = down("cp2", "start", "after")
    with pytest.raises(PartialFailure):
        fleet.run()
    fleet.fault = lambda *_: None
    fleet.unprovable = "no quorum"
    with pytest.raises(ClusterUnhealthy):
        fleet.orchestrator().clean_up()
    assert [path for path in fleet.picture() if ".before-" in path]

    fleet.unprovable = None
    fleet.run()
    removed = fleet.orchestrator().clean_up()

    assert {host: len(paths) for host, paths in removed.items()} == {"cp1": 1, "cp2": 1, "cp3": 1}
    assert not [path for path in fleet.picture() if ".before-" in path]
    fleet.assert_restored()
    assert fleet.orchestrator().clean_up() == {"cp1": [], "cp2": [], "cp3": []}


def test_status_tells_the_phase_of_every_host(fleet: Fleet) -> None:
    fleet.fault = down("cp2", "swap", "before")
    with pytest.raises(PartialFailure):
        fleet.run()

    state, hosts = fleet.orchestrator().status()

    assert state.phase == "rolling back"
    assert isinstance(hosts.pop("cp2"), EtcdGuardError)
    assert {host: getattr(one, "facts", {}).get("phase") for host, one in hosts.items()} == {
        "cp1": "swapped",
        "cp3": "swapped",
    }
