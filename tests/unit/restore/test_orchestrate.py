"""A restore over hosts does all of it on all of them, or nothing on any; whatever fails, wherever."""

from __future__ import annotations

import itertools
import os
import pwd
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import (
    ClusterUnhealthy,
    Corruption,
    EtcdGuardError,
    Interrupted,
    Locked,
    PartialFailure,
    Refused,
    RepositoryError,
    UsageError,
)
from etcdguard.restore.crew import Crew, NoWatcher
from etcdguard.restore.hosts import Site
from etcdguard.restore.journal import exclusive
from etcdguard.restore.steps import StepAnswer, StepRequest
from etcdguard.restore.telling import Tell
from etcdguard.storage.durable import remove_tree
from tests.support.restores import SteppingClock
from tests.unit.restore.fleet import HOSTS, VERSION, Fleet, lost

FORWARD = ("stage", "close", "quiesce", "barrier", "swap", "gate", "start")
"""The steps before the proof; what goes wrong in them is undone."""


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path)


def _at(
    host: str, step: str, when: str, error: Callable[[], BaseException]
) -> Callable[[str, str, str], None]:
    met: list[tuple[str, ...]] = []

    def fault(*place: str) -> None:
        if place == (host, step, when) and not met:
            met.append(place)
            raise error()

    return fault


def _down(host: str, step: str, when: str) -> Callable[[str, str, str], None]:
    """From then on the host does not answer."""
    gone: list[str] = []

    def fault(*place: str) -> None:
        if place == (host, step, when):
            gone.append(host)
        if place[0] in gone:
            raise lost()

    return fault


def _fails_and_loses(host: str, failed: str, step: str) -> Callable[[str, str, str], None]:
    """After it has failed in one step, the host is lost before another of the way back."""
    met: list[str] = []

    def fault(*place: str) -> None:
        if place == (host, failed, "after"):
            met.append(failed)
            raise lost()
        if met and (place[:2] == (host, step) or ("gone" in met and place[0] == host)):
            met.append("gone")
            raise lost()

    return fault


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
    fleet.fault = _down("cp2", "hello", "before")
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
    fleet.fault = _down("cp2", "swap", "before")
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


# -- failures before the proof: all is put back --------------------------------------------------------------


@pytest.mark.parametrize("error", [lost, KeyboardInterrupt], ids=["lost", "interrupt"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("host", ["cp1", "cp3"])
@pytest.mark.parametrize("step", FORWARD)
def test_a_failure_leaves_every_host_as_it_was(
    fleet: Fleet, step: str, host: str, when: str, error: Callable[[], BaseException]
) -> None:
    before = fleet.picture()
    fleet.fault = _at(host, step, when, error)

    with pytest.raises((EtcdGuardError, KeyboardInterrupt)) as failure:
        fleet.run()

    assert fleet.picture() == before
    assert fleet.recorded == []
    if error is lost:
        assert str(failure.value).endswith("the connection is lost; everything was put back as it was")


def test_what_did_not_run_before_does_not_run_afterwards(fleet: Fleet) -> None:
    (client,) = fleet.services("cp2").control_plane
    client.stop()
    client.release()
    before = fleet.picture()
    fleet.fault = _at("cp3", "start", "after", lost)

    with pytest.raises(EtcdGuardError):
        fleet.run()

    assert fleet.picture() == before


def test_a_cluster_that_proves_wrong_is_taken_back(fleet: Fleet) -> None:
    before = fleet.picture()
    fleet.unprovable = "m2 has another hash"

    with pytest.raises(ClusterUnhealthy, match="m2 has another hash; everything was put back"):
        fleet.run()

    assert fleet.picture() == before
    fleet.unprovable = None
    with pytest.raises(Refused, match="spends its token"):
        fleet.run()
    assert fleet.picture() == before


def test_a_bad_backup_is_found_while_everything_runs(fleet: Fleet) -> None:
    before = fleet.picture()

    def fetch() -> Any:
        yield b"x"
        raise Corruption("the object was changed", hint="x")

    fleet.environment = {"fetch": fetch}
    with pytest.raises(Corruption, match="the object was changed"):
        fleet.run()
    assert fleet.picture() == before


# -- a host that stays away ----------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["run", "roll_back"])
@pytest.mark.parametrize("step", FORWARD)
def test_a_host_that_is_lost_can_come_back_to_either_end(fleet: Fleet, step: str, then: str) -> None:
    before = fleet.picture()
    fleet.fault = _down("cp2", step, "after")
    with pytest.raises(PartialFailure) as failure:
        fleet.run()
    assert f"etcdguard restore rollback {fleet.plan.id}" in failure.value.hint
    assert f"{fleet.root}/orchestrator/{fleet.plan.id}/plan.json --all" in failure.value.hint
    if step in ("swap", "gate", "start"):
        new = [host for host in HOSTS if "new" in (fleet.data(host) / "member" / "snap" / "db").read_text()]
        assert new == list(HOSTS), "directories go back on all hosts or on none"

    fleet.fault = lambda *_: None
    getattr(fleet, then)()

    if then == "run":
        fleet.assert_restored()
    else:
        assert fleet.picture() == before


@pytest.mark.parametrize("step", ["quiesce", "rollback", "resume", "discard"])
@pytest.mark.parametrize("failed", ["gate", "start"])
def test_a_host_lost_on_the_way_back_leaves_just_the_ways_that_are_told(
    tmp_path: Path, failed: str, step: str
) -> None:
    for then in ("run", "roll_back"):
        fleet = Fleet.make(tmp_path / then)
        before = fleet.picture()
        fleet.fault = _fails_and_loses("cp2", failed, step)
        with pytest.raises(PartialFailure) as failure:
            fleet.run()
        plan = fleet.plan.id
        assert f"etcdguard restore rollback {plan}" in failure.value.hint
        spent = failed == "start" and step != "quiesce"
        assert ("restore run --plan" in failure.value.hint) is not spent

        fleet.fault = lambda *_: None
        if then == "run" and spent:
            standing = fleet.picture()
            with pytest.raises(Refused, match="put back already") as refusal:
                fleet.run()
            assert f"etcdguard restore rollback {plan}" in refusal.value.hint
            assert fleet.picture() == standing
            then = "roll_back"
        getattr(fleet, then)()

        if then == "run":
            fleet.assert_restored()
        else:
            assert fleet.picture() == before


def test_a_journal_that_cannot_be_written_stops_the_way_back(fleet: Fleet) -> None:
    before = fleet.picture()

    def full(host: str, step: str, when: str) -> None:
        if (host, step, when) == ("cp2", "swap", "after"):
            journal = fleet.root / "orchestrator" / fleet.plan.id / "orchestrator.jsonl"
            journal.rename(journal.with_suffix(".kept"))
            journal.mkdir()
            raise lost()

    fleet.fault = full
    with pytest.raises(EtcdGuardError):
        fleet.run()
    journal = fleet.root / "orchestrator" / fleet.plan.id / "orchestrator.jsonl"
    journal.rmdir()
    journal.with_suffix(".kept").rename(journal)

    fleet.roll_back()

    assert fleet.picture() == before


@pytest.mark.parametrize("then", ["run", "roll_back"])
@pytest.mark.parametrize("step", ["status", "quiesce", "rollback", "resume", "discard"])
def test_a_second_interrupt_cuts_the_way_back_off(fleet: Fleet, step: str, then: str) -> None:
    before = fleet.picture()
    met: list[str] = []

    def fault(*place: str) -> None:
        wanted = [one for one in ("gate", step) if one not in met][:1]
        if place[0] == "cp2" and place[1] in wanted:
            met.append(place[1])
            raise KeyboardInterrupt

    fleet.fault = fault
    with pytest.raises(Interrupted, match="before every host was as it had been") as failure:
        fleet.run()
    assert f"etcdguard restore rollback {fleet.plan.id}" in failure.value.hint
    assert "restore run --plan" in failure.value.hint

    getattr(fleet, then)()

    if then == "run":
        fleet.assert_restored()
    else:
        assert fleet.picture() == before


def test_no_host_is_left_behind_by_a_second_interrupt(fleet: Fleet) -> None:
    """The way back begins when every host has answered, however often somebody presses Ctrl-C."""
    host = _Stubborn()
    crew = Crew(fleet.plan, (Site(host, ("m1",)),), VERSION, SteppingClock(), NoWatcher())

    with pytest.raises(KeyboardInterrupt):
        crew.ask("swap")

    assert host.interrupts == 2
    assert host.ended


def test_an_interrupt_before_every_host_was_told_waits_for_those_that_were(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    fleet.fault = lambda host, step, when: told.append(f"{host} {when}")
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if thread.name == "status cp2":
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fleet.orchestrator().status()

    assert told in ([], ["cp1 before", "cp1 after"])


class _Stubborn:
    """Its step ends only after the second interrupt, and it causes both."""

    name = "cp1"

    def __init__(self) -> None:
        self.interrupts = 0
        self.ended = False
        self._released = threading.Event()

    def run(self, request: StepRequest, timeout: float, tell: Tell | None = None) -> StepAnswer:
        os.kill(os.getpid(), signal.SIGINT)
        self._released.wait()
        self.ended = True
        return StepAnswer(version=VERSION, ok=True)

    def interrupt(self) -> None:
        self.interrupts += 1
        if self.interrupts == 1:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            self._released.set()

    def close(self) -> None: ...


def test_an_interrupt_after_the_proof_takes_nothing_back(fleet: Fleet) -> None:
    fleet.fault = _at("cp2", "reopen", "before", KeyboardInterrupt)
    with pytest.raises(Interrupted, match="the cluster is restored") as failure:
        fleet.run()
    assert "restore run --plan" in failure.value.hint
    assert "rollback" not in failure.value.hint

    fleet.run()

    fleet.assert_restored()


def test_after_the_proof_nothing_is_taken_back(fleet: Fleet) -> None:
    fleet.fault = _at("cp2", "reopen", "before", lost)
    with pytest.raises(PartialFailure, match="restored, but not open on every host"):
        fleet.run()
    with pytest.raises(Refused, match="proven and in service"):
        fleet.roll_back()

    fleet.run()

    fleet.assert_restored()


# -- cleanup and status --------------------------------------------------------------------------------------


def test_cleanup_removes_old_directories_of_a_proven_cluster_only(fleet: Fleet) -> None:
    fleet.fault = _down("cp2", "start", "after")
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
    fleet.fault = _down("cp2", "swap", "before")
    with pytest.raises(PartialFailure):
        fleet.run()

    state, hosts = fleet.orchestrator().status()

    assert state.phase == "rolling back"
    assert isinstance(hosts.pop("cp2"), EtcdGuardError)
    assert {host: getattr(one, "facts", {}).get("phase") for host, one in hosts.items()} == {
        "cp1": "swapped",
        "cp3": "swapped",
    }


# -- SIGKILL -------------------------------------------------------------------------------------------------


def _killed(fleet: Fleet, step: str, when: str) -> None:
    """Run in a process that dies on the spot when the last host has come to that step."""
    pid = os.fork()
    if pid == 0:
        fleet.fault = _dies(step, when)
        try:
            fleet.run()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def _dies(step: str, when: str) -> Callable[[str, str, str], None]:
    def fault(*place: str) -> None:
        if place == ("cp2", step, when):
            os._exit(9)

    return fault


@pytest.mark.parametrize("then", ["run", "roll_back"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*FORWARD, "reopen"])
def test_a_killed_orchestrator_can_go_on_or_go_back(fleet: Fleet, step: str, when: str, then: str) -> None:
    before = fleet.picture()
    _killed(fleet, step, when)

    if then == "run":
        fleet.run()
        fleet.assert_restored()
    elif step == "reopen":
        with pytest.raises(Refused, match="proven"):
            fleet.roll_back()
    else:
        fleet.roll_back()
        assert fleet.picture() == before


DISK_STEPS = (os, "fsync"), (Path, "rename"), (Path, "unlink"), (os, "rmdir"), (Path, "touch")


def _killed_at(fleet: Fleet, limit: int) -> int:
    """Run in a process that dies at its ``limit``-th change on disk; its exit code."""
    pid = os.fork()
    if pid == 0:
        count = itertools.count(1)

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **options: Any) -> Any:
                if next(count) == limit:
                    os._exit(9)
                return original(*args, **options)

            return step

        for owner, name in DISK_STEPS:
            setattr(owner, name, counted(getattr(owner, name)))
        try:
            fleet.run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("then", ["run", "roll_back"])
def test_killed_at_any_change_on_disk_it_can_go_on_or_go_back(tmp_path: Path, then: str) -> None:
    """The hosts die with the orchestrator: they are all in its process."""
    for limit in itertools.count(1, 3 if then == "run" else 4):
        fleet = Fleet.make(tmp_path / str(limit))
        before = fleet.picture()
        if _killed_at(fleet, limit) == 0:
            break
        if then == "run" or fleet.orchestrator().status()[0].proven:
            if not fleet.orchestrator().status()[0].finished:
                fleet.run()
            fleet.assert_restored()
        else:
            fleet.roll_back()
            assert fleet.picture() == before
    assert limit > 100, "there are that many changes"
