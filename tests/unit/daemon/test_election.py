"""Which daemon acts, as the election's thread finds out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from etcdguard.daemon import election as module
from etcdguard.daemon.election import Alone, EtcdElection
from etcdguard.errors import EtcdGuardError, EtcdUnreachable, Locked

TIMEOUT = 60.0


class Etcd:
    """A lock and the leaders' marks."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.is_held = False
        self.closed = 0
        self.marks: dict[str, str] = {}
        self.marks_refusal: EtcdGuardError | None = None

    def acquire(self, patience: float = 0.0) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.is_held = True

    def held(self) -> bool:
        return self.is_held

    def close(self) -> None:
        self.is_held = False
        self.closed += 1

    def read(self, job: str) -> str | None:
        if self.marks_refusal is not None:
            raise self.marks_refusal
        return self.marks.get(job)

    def write(self, job: str, slot: str) -> None:
        if self.marks_refusal is not None:
            raise self.marks_refusal
        self.marks[job] = slot


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    monkeypatch.setattr(module, "_LEADER_POLL", 0.01)
    monkeypatch.setattr(module, "_OTHER_POLL", 0.01)
    return Etcd()


@pytest.fixture
def elect(etcd: Etcd) -> Iterator[Callable[[], EtcdElection]]:
    made: list[EtcdElection] = []

    def start() -> EtcdElection:
        made.append(EtcdElection(lambda: etcd, etcd, ["backup", "defrag"]))
        return made[-1]

    yield start
    for one in made:
        one.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_the_holder_of_the_lock_leads_and_knows_what_was_done(
    etcd: Etcd, elect: Callable[[], EtcdElection]
) -> None:
    etcd.marks["defrag"] = "20260301T030000Z"
    election = elect()
    until(lambda: election.role() == "leader")
    assert election.done("defrag") == "20260301T030000Z"
    assert election.done("backup") is None
    election.mark_done("backup", "20260301T040000Z")
    assert election.done("backup") == "20260301T040000Z"
    until(lambda: etcd.marks.get("backup") == "20260301T040000Z")


def test_it_stops_leading_the_moment_the_lock_is_not_certain(
    etcd: Etcd, elect: Callable[[], EtcdElection]
) -> None:
    election = elect()
    until(lambda: election.role() == "leader")
    etcd.refusal = Locked("held by node-2", hint="wait", holder="node-2")
    etcd.is_held = False
    assert election.role() != "leader"
    until(lambda: election.holder() == "node-2")
    assert election.role() == "standby"
    etcd.refusal = None
    until(lambda: election.role() == "leader")


def test_without_etcd_there_is_no_lock_and_a_reason(etcd: Etcd, elect: Callable[[], EtcdElection]) -> None:
    etcd.refusal = EtcdUnreachable("nobody answers", hint="start etcd")
    election = elect()
    until(lambda: election.role() == "no_lock")
    assert election.problem() == "nobody answers"
    etcd.refusal = Locked("held by node-2", hint="wait")
    until(lambda: election.role() == "standby")
    assert election.problem() is None


def test_it_does_not_lead_before_it_knows_what_was_done(
    etcd: Etcd, elect: Callable[[], EtcdElection]
) -> None:
    etcd.marks_refusal = EtcdUnreachable("nobody answers", hint="start etcd")
    election = elect()
    until(lambda: election.problem() == "nobody answers")
    assert etcd.is_held
    assert election.role() == "no_lock"
    etcd.marks_refusal = None
    until(lambda: election.role() == "leader")


def test_a_fault_of_our_own_does_not_end_the_election(etcd: Etcd, elect: Callable[[], EtcdElection]) -> None:
    etcd.refusal = ValueError("a bug")
    election = elect()
    until(lambda: election.problem() == "internal: ValueError: a bug")
    etcd.refusal = None
    until(lambda: election.role() == "leader")


def test_the_end_gives_the_lock_up_and_leaves_the_marks(etcd: Etcd) -> None:
    election = EtcdElection(lambda: etcd, etcd, ["backup"])
    until(lambda: election.role() == "leader")
    election.mark_done("backup", "20260301T040000Z")
    election.close()
    assert etcd.marks == {"backup": "20260301T040000Z"}
    assert not etcd.is_held
    assert etcd.closed == 2  # the lock's connection and the marks'


def test_without_an_election_everybody_leads() -> None:
    alone = Alone()
    alone.mark_done("backup", "20260301T040000Z")
    assert (alone.role(), alone.done("backup"), alone.problem()) == ("leader", "20260301T040000Z", None)
