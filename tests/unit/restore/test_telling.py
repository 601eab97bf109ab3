"""Progress from hosts: bounded in rate, told on the way of a stage, and only to whoever asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etcdguard.errors import EtcdGuardError, Interrupted
from etcdguard.restore.crew import NoWatcher
from etcdguard.restore.hosts import LocalHost
from etcdguard.restore.plan import plan_document
from etcdguard.restore.steps import StepProgress, StepRequest
from etcdguard.restore.telling import Telling
from tests.unit.restore.fleet import HOSTS, VERSION, Fleet
from tests.unit.restore.world import SNAPSHOT


def test_a_second_passes_between_two_words_but_a_phase_is_told_at_once() -> None:
    now, told = [0.0], list[StepProgress]()
    telling = Telling(told.append, lambda: now[0])
    telling.phase("fetch", 1000)
    for _ in range(1000):
        telling.advance(1)
        now[0] += 0.005
    telling.phase("stage", None)
    telling.done()

    assert [(one.progress, one.total_bytes) for one in told] == [("fetch", 1000)] * 5 + [("stage", None)]
    counts = [one.bytes for one in told]
    assert counts[0] == counts[-1] == 0
    assert counts[1:-1] == sorted(counts[1:-1])


class _Watching(NoWatcher):
    def __init__(self) -> None:
        self.told: list[tuple[str, StepProgress]] = []

    def progress(self, host: str, at: StepProgress) -> None:
        self.told.append((host, at))


def test_every_host_tells_how_far_its_stage_is(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path)
    fleet.watcher = watching = _Watching()

    fleet.run()

    for host in HOSTS:
        told = [at for name, at in watching.told if name == host]
        assert [at.progress for at in told][:1] == ["fetch"]
        assert told[-1].progress == "stage"
        assert max(at.bytes for at in told) == len(SNAPSHOT)
        assert told[0].total_bytes == fleet.plan.db_bytes + 32


def _request(fleet: Fleet, *, progress: bool) -> StepRequest:
    document = plan_document(fleet.plan)
    return StepRequest(version=VERSION, step="stage", plan=document, members=("m1",), progress=progress)


def test_nothing_is_told_to_whoever_does_not_ask(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path)
    told: list[StepProgress] = []
    assert LocalHost("cp1", fleet.node("cp1")).run(_request(fleet, progress=False), 9, told.append).ok
    assert told == []


def test_an_interrupt_ends_a_stage_in_this_process_and_nothing_is_left(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path)
    before = fleet.picture()
    reached, go_on = threading.Event(), threading.Event()

    def fetch() -> Iterator[bytes]:
        yield SNAPSHOT[:10]
        reached.set()
        assert go_on.wait(60)
        yield SNAPSHOT[10:]

    fleet.environment = {"fetch": fetch}
    host = LocalHost("cp1", fleet.node("cp1"))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(host.run(_request(fleet, progress=True), 9)))
    thread.start()
    assert reached.wait(60)
    host.interrupt()
    go_on.set()
    thread.join(60)

    (answer,) = answers
    assert answer.error is not None
    assert answer.error.exit_code == Interrupted.exit_code
    assert fleet.picture() == before
    assert host.run(_request(fleet, progress=True), 9).ok, "a later step is not interrupted"


def test_whoever_cannot_listen_ends_the_stage(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path)
    before = fleet.picture()

    def gone(_: StepProgress) -> None:
        raise BrokenPipeError

    with pytest.raises((BrokenPipeError, EtcdGuardError)):
        fleet.node("cp1").answer(_request(fleet, progress=True), gone)
    assert fleet.picture() == before
