"""Whatever fails in a restore over hosts, wherever: all is put back, or the way back is told."""

from __future__ import annotations

import os
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
    PartialFailure,
    Refused,
)
from etcdguard.restore.crew import Crew, NoWatcher
from etcdguard.restore.hosts import Site
from etcdguard.restore.journal import Journal
from etcdguard.restore.steps import StepAnswer, StepRequest
from etcdguard.restore.telling import Tell
from tests.support.restores import SteppingClock
from tests.unit.restore.faults import FORWARD, at, down, fails_and_loses
from tests.unit.restore.fleet import HOSTS, VERSION, Fleet, lost

# -- failures before the proof: all is put back --------------------------------------------------------------


@pytest.mark.parametrize("error", [lost, KeyboardInterrupt], ids=["lost", "interrupt"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("host", ["cp1", "cp3"])
@pytest.mark.parametrize("step", FORWARD)
def test_a_failure_leaves_every_host_as_it_was(
    fleet: Fleet, step: str, host: str, when: str, error: Callable[[], BaseException]
) -> None:
    before = fleet.picture()
    fleet.fault = at(host, step, when, error)

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
    fleet.fault = at("cp3", "start", "after", lost)

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
    fleet.fault = down("cp2", step, "after")
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
        fleet.fault = fails_and_loses("cp2", failed, step)
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


def test_a_journal_that_cannot_be_written_in_the_end_is_told_as_such(fleet: Fleet) -> None:
    journal = fleet.root / "orchestrator" / fleet.plan.id / "orchestrator.jsonl"

    def backup() -> str:
        journal.rename(journal.with_suffix(".kept"))
        journal.mkdir()
        return "a backup"

    fleet.backup = backup
    with pytest.raises(PartialFailure, match="the cluster is restored, but this could not be noted") as error:
        fleet.run()
    assert "restore run --plan" in error.value.hint
    journal.rmdir()
    journal.with_suffix(".kept").rename(journal)
    fleet.backup = None

    fleet.run()

    fleet.assert_restored()


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
    fleet.fault = at("cp2", "reopen", "before", KeyboardInterrupt)
    with pytest.raises(Interrupted, match="the cluster is restored") as failure:
        fleet.run()
    assert "restore run --plan" in failure.value.hint
    assert "rollback" not in failure.value.hint

    fleet.run()

    fleet.assert_restored()


def test_after_the_proof_nothing_is_taken_back(fleet: Fleet) -> None:
    fleet.fault = at("cp2", "reopen", "before", lost)
    with pytest.raises(PartialFailure, match="restored, but not open on every host"):
        fleet.run()
    with pytest.raises(Refused, match="proven and in service"):
        fleet.roll_back()

    fleet.run()

    fleet.assert_restored()


def test_a_way_back_that_cannot_be_noted_ends_before_directories_move(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all of etcd stopped: whoever looks later must know from the journal how far it was."""
    before = fleet.picture()
    append = Journal.append

    def full(journal: Journal, event: str, **facts: Any) -> None:
        if event == "putting-back":
            raise EtcdGuardError("cannot write the journal: no space left", hint="make room")
        append(journal, event, **facts)

    fleet.fault = at("cp2", "swap", "after", lost)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", full)
        with pytest.raises(EtcdGuardError) as error:
            fleet.run()
    assert "nothing was put back, and nothing was started" in error.value.message
    assert "no space left" in error.value.message
    assert not any(service.is_running() for host in HOSTS for service in fleet.services(host).all)

    fleet.roll_back()

    assert fleet.picture() == before


def test_a_fault_of_our_own_is_undone_and_keeps_its_traceback(fleet: Fleet) -> None:
    before = fleet.picture()
    fleet.fault = at("cp2", "swap", "after", lambda: ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError, match="ours"):
        fleet.run()
    assert fleet.picture() == before
