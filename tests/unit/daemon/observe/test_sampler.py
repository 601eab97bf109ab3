from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from etcdguard.daemon.observe.sampler import Sampler
from etcdguard.errors import EtcdUnreachable
from etcdguard.maintenance.checks.history import History
from etcdguard.maintenance.checks.history_file import HistoryFile
from tests.unit.maintenance.facts import sample

PATIENCE = 60.0


class Cluster:
    """Answers every look, unless it is told otherwise; a look a second of its own time."""

    def __init__(self) -> None:
        self.connections = 0
        self.looks = 0
        self.error: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()
        self.asked_in_vain = threading.Event()

    @contextmanager
    def connect(self) -> Iterator[Cluster]:
        self.connections += 1
        yield self

    def remember(self, history: History | None) -> History:
        self.looks += 1
        if not self.answers.is_set():
            self.asked_in_vain.set()
            assert self.answers.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return (history or History("c")).with_sample("c", sample(-self.looks))


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def sampler(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[[], Sampler]]:
    made = []

    def start() -> Sampler:
        made.append(Sampler(cluster.connect, HistoryFile(tmp_path / "state"), every=0.001))
        return made[-1]

    yield start
    for one in made:
        one.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def idle() -> bool:
    return all(one.name != "sampler" for one in threading.enumerate())


def remembered(folder: Path) -> int:
    found = HistoryFile(folder / "state").read()
    return 0 if found is None else len(found.samples)


def test_it_goes_on_from_what_stands_there_over_one_connection(
    cluster: Cluster, sampler: Callable[[], Sampler], tmp_path: Path
) -> None:
    HistoryFile(tmp_path / "state").write(History("c").with_sample("c", sample(60)))
    sampler()
    until(lambda: remembered(tmp_path) >= 3)
    found = HistoryFile(tmp_path / "state").read()
    assert found is not None
    assert found.samples[1].at - found.samples[0].at == timedelta(seconds=61)
    assert cluster.connections == 1


def test_a_silent_cluster_is_asked_again_over_a_new_connection(
    cluster: Cluster, sampler: Callable[[], Sampler], tmp_path: Path
) -> None:
    cluster.error = EtcdUnreachable("gone", hint="start it")
    sampler()
    until(lambda: cluster.looks >= 3)
    assert remembered(tmp_path) == 0
    cluster.error = None
    until(lambda: remembered(tmp_path) >= 2)
    assert cluster.connections >= 4


def test_a_fault_of_our_own_is_told_once_and_does_not_end_it(
    cluster: Cluster, sampler: Callable[[], Sampler], tmp_path: Path
) -> None:
    cluster.error = RuntimeError("a bug")
    with capture_logs() as logs:
        sampler()
        until(lambda: cluster.looks >= 3)
        cluster.error = None
        until(lambda: remembered(tmp_path) >= 1)
    told = [one["reason"] for one in logs if one["event"] == "samples.not_kept"]
    assert told == ["internal: RuntimeError: a bug"]


def test_a_folder_that_takes_nothing_is_told_once(
    cluster: Cluster, sampler: Callable[[], Sampler], tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("in the way")
    with capture_logs() as logs:
        sampler()
        until(lambda: cluster.looks >= 3)
        (tmp_path / "state").unlink()
        until(lambda: remembered(tmp_path) >= 1)
    told = [one["reason"] for one in logs if one["event"] == "samples.not_kept"]
    assert len(told) == 1
    assert "samples.json: " in told[0]


def test_once_closed_it_writes_no_more(
    cluster: Cluster, sampler: Callable[[], Sampler], tmp_path: Path
) -> None:
    one = sampler()
    until(lambda: remembered(tmp_path) >= 1)
    cluster.answers.clear()
    assert cluster.asked_in_vain.wait(PATIENCE)
    before = HistoryFile(tmp_path / "state").read()
    one.close()
    cluster.answers.set()
    until(idle)
    assert HistoryFile(tmp_path / "state").read() == before
