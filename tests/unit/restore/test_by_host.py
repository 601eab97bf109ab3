"""A plan carried from host to host: two rounds, the operator as barrier between them, and never a mixture."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import EtcdGuardError, Locked, PartialFailure, Refused, RepositoryError, UsageError
from etcdguard.restore.journal import exclusive
from tests.unit.restore.faults import killed_at
from tests.unit.restore.fleet import HOSTS, Fleet, lost

FIRST = ("preflight", "stage", "close", "quiesce", "barrier", "swap", "gate")
"""The steps of the first round, with the one that changes nothing yet."""


def _all_held(fleet: Fleet) -> None:
    for host in HOSTS:
        assert fleet.part(host).run("held").phase == "held"


def _assert_held(fleet: Fleet, host: str) -> None:
    services = fleet.services(host)
    assert not any(service.is_running() for service in services.all)
    assert all((fleet.root / host / "services" / f"{one.name}.held").exists() for one in services.all)


def _one(fleet: Fleet, host: str) -> dict[str, str]:
    return {path: text for path, text in fleet.picture().items() if path.startswith(f"{host}/")}


# -- forward -------------------------------------------------------------------------------------------------


def test_two_rounds_bring_the_cluster_back(fleet: Fleet) -> None:
    _all_held(fleet)
    for host in HOSTS:
        _assert_held(fleet, host)
        assert fleet.cluster_of(host) is None
    assert fleet.recorded == []

    with pytest.raises(PartialFailure, match="m1 runs, but the cluster is not whole"):
        fleet.part("cp1").run("open")
    assert fleet.part("cp2").run("started").phase == "started"
    assert not fleet.services("cp2").control_plane[0].is_running(), "not before the proof"
    done = fleet.part("cp3").run("open")

    assert (done.phase, done.proof, done.fresh_backup) == ("open", {"leader": "m1"}, None)
    for host in ("cp1", "cp2"):
        assert not fleet.services(host).control_plane[0].is_running()
        assert fleet.part(host).run("open").phase == "open"
    fleet.assert_restored()
    assert [event["host"] for event in fleet.recorded] == ["cp3", "cp1", "cp2"]
    assert {event["plan_id"] for event in fleet.recorded} == {fleet.plan.id}


def test_one_of_several_hosts_takes_no_backup(fleet: Fleet) -> None:
    fleet.backup = lambda: pytest.fail("others may still be opening")
    _all_held(fleet)
    for host in ("cp1", "cp2"):
        fleet.part(host).run("started")
    assert fleet.part("cp3").run("open").fresh_backup is None


def test_nothing_on_other_hosts_is_touched(fleet: Fleet) -> None:
    before = {host: _one(fleet, host) for host in HOSTS}
    fleet.part("cp2").run("held")
    assert {host: _one(fleet, host) for host in ("cp1", "cp3")} == {
        host: before[host] for host in ("cp1", "cp3")
    }


def test_the_first_round_can_be_run_again_and_changes_nothing(fleet: Fleet) -> None:
    fleet.part("cp1").run("held")
    before = fleet.picture()

    again = fleet.part("cp1").run("held")

    assert (again.phase, [len(member.kept) for member in again.members]) == ("held", [1])
    assert fleet.picture() == before


def test_a_member_is_not_started_beside_one_of_the_old_cluster(fleet: Fleet) -> None:
    before = fleet.picture()
    with pytest.raises(Refused, match="m2, m3 still runs in another cluster"):
        fleet.part("cp1").run("open")
    assert fleet.picture() == before

    fleet.part("cp1").run("held")
    held = fleet.picture()
    with pytest.raises(Refused, match="m2, m3") as refusal:
        fleet.part("cp1").run("started")
    assert "on cp2: `etcdguard restore run" in refusal.value.hint
    assert fleet.picture() == held


def test_an_old_member_that_appears_while_we_work_keeps_ours_held(fleet: Fleet) -> None:
    for host in ("cp2", "cp3"):
        fleet.part(host).run("held")
    # Somebody puts cp2 back, once our checks are through.
    fleet.fault = lambda host, step, when: (
        fleet.part("cp2").roll_back() if (host, step, when) == ("cp1", "gate", "after") else None
    )

    with pytest.raises(PartialFailure, match="in place here and held, but m2 still runs"):
        fleet.part("cp1").run("started")

    fleet.fault = lambda *_: None
    _assert_held(fleet, "cp1")


def test_without_services_the_part_ends_when_it_is_in_place(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, served=False)

    done = fleet.part("cp1").run("held")

    assert (done.phase, done.proof) == ("open", None)
    assert [event["host"] for event in fleet.recorded] == ["cp1"]
    assert not list(tmp_path.rglob("*.held"))
    with pytest.raises(Refused, match="has been carried out here"):
        fleet.part("cp1").run("held")


def test_a_part_that_cannot_be_recorded_stands(fleet: Fleet) -> None:
    class Full(list[Any]):
        def append(self, _: object) -> None:
            raise RepositoryError("the bucket is gone", hint="x")

    fleet.recorded = Full()
    _all_held(fleet)
    for host in ("cp1", "cp2"):
        fleet.part(host).run("started")
    assert fleet.part("cp3").run("open").record_problem == "the bucket is gone"


def test_how_this_host_stands_and_what_is_seen_of_the_others(fleet: Fleet) -> None:
    fleet.part("cp1").run("held")
    fleet.part("cp2").run("held")
    for service in (*fleet.services("cp3").control_plane, fleet.services("cp3").etcd):
        service.stop()

    phase, answers = fleet.part("cp1").status()

    assert phase == "swapped"
    assert set(answers) == {"cp1"}
    assert fleet.part("cp1").neighbours() == {
        "cp2": "not reached from here; m2 does not answer",
        "cp3": "not reached from here; m3 does not answer",
    }
    fleet.services("cp2").etcd.start()
    fleet.services("cp3").etcd.start()
    assert fleet.part("cp1").neighbours() == {
        "cp2": "not reached from here; m2 runs in the restored cluster",
        "cp3": "not reached from here; m3 runs in the old cluster",
    }


def test_a_host_that_cannot_be_put_back_says_why_it_failed_and_why_it_stays(fleet: Fleet) -> None:
    def fault(_: str, step: str, when: str) -> None:
        if (step, when) == ("gate", "before"):
            raise EtcdGuardError("the power fails", hint="x")
        if (step, when) == ("rollback", "before"):
            raise EtcdGuardError("the disk is gone", hint="look at the disk")

    fleet.fault = fault
    with pytest.raises(PartialFailure) as failure:
        fleet.part("cp1").run("held")

    assert failure.value.message == (
        "the power fails; this host could not be put back as it was: the disk is gone"
    )
    back = f"etcdguard restore rollback {fleet.plan.id}"
    assert failure.value.hint.startswith(f"look at the disk; then `{back}`, or go on: ")
    fleet.fault = lambda *_: None
    before = _one(fleet, "cp2")
    fleet.part("cp1").roll_back()
    assert (fleet.data("cp1") / "member" / "snap" / "db").read_text() == "old data of m1"
    assert all(service.is_running() for service in fleet.services("cp1").all)
    assert _one(fleet, "cp2") == before


def test_two_restores_at_once_are_refused(fleet: Fleet) -> None:
    before = fleet.picture()
    lock = fleet.root / "cp1" / "state" / "orchestrator.lock"
    with exclusive(lock, patience=0, doing="the test"):
        with pytest.raises(Locked, match="at work already"):
            fleet.part("cp1").run("held")
        with pytest.raises(Locked, match="at work already"):
            fleet.part("cp1").roll_back()
    assert fleet.picture() == before


def test_a_held_host_refuses_another_plan(fleet: Fleet) -> None:
    fleet.part("cp1").run("held")
    other = Fleet.make_again(fleet)
    with pytest.raises(Refused, match=f"restore {fleet.plan.id} has not ended"):
        other.part("cp1").run("held")


def test_services_are_for_all_members_or_none(fleet: Fleet) -> None:
    first, *others = fleet.plan.members
    fleet.plan = fleet.plan.model_copy(
        update={"members": (first.model_copy(update={"service": None}), *others)}
    )
    with pytest.raises(UsageError, match="only some"):
        fleet.part("cp1")


def test_an_orchestrator_can_take_over(fleet: Fleet) -> None:
    fleet.part("cp1").run("held")

    fleet.run()

    fleet.assert_restored()
    with pytest.raises(Refused, match="proven and in service"):
        fleet.part("cp1").roll_back()


# -- failures ------------------------------------------------------------------------------------------------


def _at(step: str, when: str, error: Callable[[], BaseException]) -> Callable[[str, str, str], None]:
    met: list[str] = []

    def fault(_: str, *place: str) -> None:
        if place == (step, when) and not met:
            met.append(step)
            raise error()

    return fault


@pytest.mark.parametrize("error", [lost, KeyboardInterrupt], ids=["lost", "interrupt"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", FIRST)
def test_a_failure_in_the_first_round_leaves_this_host_as_it_was(
    fleet: Fleet, step: str, when: str, error: Callable[[], BaseException]
) -> None:
    before = fleet.picture()
    fleet.fault = _at(step, when, error)

    with pytest.raises((EtcdGuardError, KeyboardInterrupt)) as failure:
        fleet.part("cp2").run("held")

    assert fleet.picture() == before
    if error is lost and step != "preflight":
        assert str(failure.value).endswith("this host was put back as it was")
    fleet.part("cp2").run("held")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["start", "reopen"])
def test_a_failure_in_the_second_round_keeps_what_is_in_place(fleet: Fleet, step: str, when: str) -> None:
    _all_held(fleet)
    for host in ("cp1", "cp2"):
        fleet.part(host).run("started")
    fleet.fault = _at(step, when, lost)

    with pytest.raises(PartialFailure, match="the new directories are in place here") as failure:
        fleet.part("cp3").run("open")

    assert "--member m3 --start" in failure.value.hint
    for host in HOSTS if when == "before" or step == "start" else ("cp1", "cp2"):
        fleet.part(host).run("started" if step == "start" and host != "cp3" else "open")


# -- backward ------------------------------------------------------------------------------------------------


def test_every_host_can_be_put_back_and_the_old_cluster_runs_again(fleet: Fleet) -> None:
    before = fleet.picture()
    _all_held(fleet)

    for host in HOSTS:
        fleet.part(host).roll_back()

    assert fleet.picture() == before
    fleet.part("cp1").roll_back()  # once more is no harm
    assert fleet.picture() == before


def test_an_old_member_is_not_started_beside_new_ones(fleet: Fleet) -> None:
    """Started on two of three, which serve: back only by name of the risk, and only once all are stopped."""
    before = fleet.picture()
    _all_held(fleet)
    for host in ("cp1", "cp2"):
        fleet.part(host).run("started")

    with pytest.raises(Refused, match="the new cluster serves at m1, m2"):
        fleet.part("cp3").roll_back()
    _assert_held(fleet, "cp3")
    with pytest.raises(PartialFailure, match="nothing was put back here, because m1, m2 still runs"):
        fleet.part("cp3").roll_back(live_quorum=True)
    _assert_held(fleet, "cp3")
    with pytest.raises(PartialFailure, match="because m2 still runs"):
        fleet.part("cp1").roll_back(live_quorum=True)
    assert fleet.cluster_of("cp1") is None
    for host in ("cp2", "cp1", "cp3"):
        fleet.part(host).roll_back()

    assert fleet.picture() == before
    for host in ("cp1", "cp2"):
        with pytest.raises(Refused, match="spends its token"):
            fleet.part(host).run("held")


def test_a_host_that_was_forgotten_stays_held(fleet: Fleet) -> None:
    _all_held(fleet)
    for host in ("cp1", "cp2"):
        fleet.part(host).roll_back()

    with pytest.raises(Refused, match="m1, m2 still runs in another cluster"):
        fleet.part("cp3").run("open")

    _assert_held(fleet, "cp3")
    fleet.part("cp3").roll_back()
    assert {fleet.cluster_of(host) for host in HOSTS} == {fleet.plan.old_cluster_id}


def test_what_is_proven_is_not_put_back(fleet: Fleet) -> None:
    _all_held(fleet)
    for host in ("cp1", "cp2"):
        fleet.part(host).run("started")
    fleet.part("cp3").run("open")
    before = fleet.picture()

    with pytest.raises(Refused, match="proven and in service"):
        fleet.part("cp3").roll_back(live_quorum=True)
    with pytest.raises(Refused, match="serves at"):
        fleet.part("cp1").roll_back()

    assert fleet.picture() == before


def test_without_services_a_spent_plan_is_not_run_again(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path, served=False)
    before = fleet.picture()
    fleet.part("cp1").run("held")

    fleet.part("cp1").roll_back()

    assert fleet.picture() == before
    with pytest.raises(Refused, match="spends its token"):
        fleet.part("cp1").run("held")


def test_old_directories_go_only_once_the_cluster_is_proven(fleet: Fleet) -> None:
    _all_held(fleet)
    with pytest.raises(EtcdGuardError, match="not proven"):
        fleet.part("cp1").clean_up()
    for host in ("cp1", "cp2"):
        fleet.part(host).run("started")
    with pytest.raises(EtcdGuardError, match="not proven"):
        fleet.part("cp1").clean_up()
    fleet.part("cp3").run("open")

    removed = fleet.part("cp3").clean_up()

    assert removed == {"cp3": [fleet.plan.members[2].kept_dir]}
    assert len([path for path in fleet.picture() if path.endswith(f".before-{fleet.plan.id}")]) == 2
    with pytest.raises(Refused, match="proven and in service"):
        fleet.part("cp3").roll_back()


# -- crashes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["run", "roll_back"])
def test_killed_at_any_change_on_disk_the_first_round_goes_on_or_back(tmp_path: Path, then: str) -> None:
    for limit in itertools.count(1, 3):
        fleet = Fleet.make(tmp_path / str(limit))
        before = fleet.picture()
        if not killed_at(lambda: fleet.part("cp1").run("held"), limit):  # noqa: B023 - called at once
            break
        if then == "run":
            assert fleet.part("cp1").run("held").phase == "held"
            _assert_held(fleet, "cp1")
        else:
            fleet.part("cp1").roll_back()
            assert fleet.picture() == before
    assert limit > 25, "there are that many changes"


def test_killed_at_any_change_on_disk_the_second_round_goes_on(tmp_path: Path) -> None:
    for limit in itertools.count(1, 3):
        fleet = Fleet.make(tmp_path / str(limit))
        _all_held(fleet)
        for host in ("cp1", "cp2"):
            fleet.part(host).run("started")
        if not killed_at(lambda: fleet.part("cp3").run("open"), limit):  # noqa: B023 - called at once
            break
        with suppress(Refused):  # it may have ended just so
            fleet.part("cp3").run("open")
        for host in ("cp1", "cp2"):
            fleet.part(host).run("open")
        fleet.assert_restored()
    assert limit > 10, "there are that many changes"
