"""The lock's own reasoning: what it believes, and when it stops believing it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest

from etcdguard.errors import EtcdUnreachable, Interrupted, Locked
from etcdguard.etcd.lock import LeaseLock, lock_key

KEY = lock_key("prod", "test")
LEASE = 15
TIMEOUT = 60.0


class Etcd:
    """A LockKeys of one process. ``clock`` is moved by hand; a gate lets renewals through one by one."""

    def __init__(self) -> None:
        self.clock = 0.0
        self.holder: tuple[bytes, int] | None = None
        self.leases: set[int] = set()
        self.down = False
        self.grant_takes = 0.0
        self.renewed = threading.Semaphore(0)
        self.let_renew: Callable[[], None] = lambda: None
        self._next = 1

    def grant(self, seconds: int) -> tuple[int, int]:
        self._answer()
        self.clock += self.grant_takes
        self._next += 1
        self.leases.add(self._next)
        return self._next, seconds

    def keep_alive(self, lease: int) -> int:
        try:
            self.let_renew()
            self._answer()
            return LEASE if lease in self.leases else 0
        finally:
            self.renewed.release()

    def revoke(self, lease: int) -> None:
        self._answer()
        self.leases.discard(lease)
        if self.holder is not None and self.holder[1] == lease:
            self.holder = None

    def claim(self, key: bytes, value: bytes, lease: int) -> bytes | None:
        self._answer()
        if self.holder is not None:
            return self.holder[0]
        self.holder = (value, lease)
        return None

    def look(self, key: bytes) -> bytes | None:
        self._answer()
        return None if self.holder is None else self.holder[0]

    def _answer(self) -> None:
        if self.down:
            raise EtcdUnreachable("etcd is down", hint="start it")


@pytest.fixture
def etcd() -> Etcd:
    return Etcd()


@pytest.fixture
def make(etcd: Etcd) -> Iterator[Callable[[str], LeaseLock]]:
    made: list[LeaseLock] = []

    def lock(owner: str, lease_seconds: int = LEASE) -> LeaseLock:
        now = datetime(2026, 1, 1, tzinfo=timezone.utc)
        made.append(
            LeaseLock(etcd, KEY, owner, lambda: now, lease_seconds=lease_seconds, elapsed=lambda: etcd.clock)
        )
        return made[-1]

    yield lock
    etcd.down = False
    for one in made:
        one.release()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_only_one_of_two_has_it_and_the_other_is_told_who(
    etcd: Etcd, make: Callable[[str], LeaseLock]
) -> None:
    first, second = make("node-1"), make("node-2")
    first.acquire()
    assert first.held()
    with pytest.raises(Locked, match=r"/etcdguard/prod/lock/test is held by node-1 \(since 2026-01-01T00:00"):
        second.acquire()
    assert not second.held()
    assert second.holder() == first.holder()
    assert len(etcd.leases) == 1
    first.release()
    assert not first.held()
    assert second.holder() is None
    second.acquire()
    assert second.held()


def test_the_lease_is_counted_by_the_local_clock_alone(etcd: Etcd, make: Callable[[str], LeaseLock]) -> None:
    lock = make("node-1")
    lock.acquire()
    etcd.down = True
    etcd.clock += LEASE - 0.001
    assert lock.held()
    etcd.clock += 0.001
    assert not lock.held()
    assert lock.remaining() == 0
    with pytest.raises(Locked, match="was lost"):
        lock.require()


def test_a_new_lease_counts_from_before_it_was_asked_for(
    etcd: Etcd, make: Callable[[str], LeaseLock]
) -> None:
    lock = make("node-1")
    etcd.grant_takes = 4.0
    lock.acquire()
    assert lock.remaining() == LEASE - 4


def test_a_renewal_counts_from_before_it_was_sent(etcd: Etcd, make: Callable[..., LeaseLock]) -> None:
    lock = make("node-1", lease_seconds=1)  # renewed every third of a second of real time
    gate = threading.Semaphore(1)  # for the first, and no other

    def slowly() -> None:
        if not gate.acquire(blocking=False):
            raise EtcdUnreachable("etcd is down", hint="start it")
        etcd.clock += 0.5  # of the answer's way

    etcd.let_renew = slowly
    lock.acquire()
    until(lambda: lock.remaining() > 1)
    assert lock.remaining() == LEASE - 0.5  # what the fake gives, from when it was asked


def test_an_answer_that_comes_too_late_does_not_bring_the_lock_back(
    etcd: Etcd, make: Callable[..., LeaseLock]
) -> None:
    lock = make("node-1", lease_seconds=1)
    asked, answer = threading.Event(), threading.Event()

    def wait() -> None:
        asked.set()
        assert answer.wait(TIMEOUT)

    etcd.let_renew = wait
    lock.acquire()
    assert asked.wait(TIMEOUT)
    etcd.clock += 1
    assert not lock.held()
    answer.set()  # etcd has kept the lease, and says so
    until(lambda: not etcd.leases)  # given up, so that others need not wait
    assert not lock.held()
    assert etcd.holder is None


def test_a_lease_that_etcd_no_longer_knows_is_a_lost_lock(etcd: Etcd, make: Callable[..., LeaseLock]) -> None:
    lock = make("node-1", lease_seconds=1)
    lock.acquire()
    etcd.leases.clear()
    until(lambda: not lock.held())
    assert etcd.clock == 0  # not by the clock


def test_a_failed_renewal_is_tried_again(etcd: Etcd, make: Callable[..., LeaseLock]) -> None:
    lock = make("node-1", lease_seconds=1)
    etcd.let_renew = lambda: setattr(etcd, "down", True)
    lock.acquire()
    assert etcd.renewed.acquire(timeout=TIMEOUT)
    assert lock.remaining() == 1
    etcd.let_renew = lambda: setattr(etcd, "down", False)
    until(lambda: lock.remaining() == LEASE)


def test_what_is_held_is_not_taken_again(etcd: Etcd, make: Callable[[str], LeaseLock]) -> None:
    lock = make("node-1")
    lock.acquire()
    held = etcd.holder
    lock.acquire()
    assert etcd.holder == held
    assert len(etcd.leases) == 1
    lock.close()  # whose keys are not the lock's own to close
    assert (etcd.holder, etcd.leases) == (None, set())


def test_patience_outlasts_the_holder(etcd: Etcd, make: Callable[[str], LeaseLock]) -> None:
    first, second = make("node-1"), make("node-2")
    first.acquire()
    waiting = threading.Thread(target=lambda: second.acquire(patience=TIMEOUT))
    waiting.start()
    first.release()
    waiting.join(TIMEOUT)
    assert second.held()


def test_waiting_can_be_cancelled(make: Callable[[str], LeaseLock]) -> None:
    make("node-1").acquire()
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(Interrupted):
        make("node-2").acquire(patience=TIMEOUT, cancelled=cancelled)


def test_without_etcd_there_is_no_lock(etcd: Etcd, make: Callable[[str], LeaseLock]) -> None:
    etcd.down = True
    with pytest.raises(EtcdUnreachable):
        make("node-1").acquire(patience=TIMEOUT)


def test_what_stands_there_may_be_anything(etcd: Etcd, make: Callable[[str], LeaseLock]) -> None:
    etcd.holder = (b"\xff", 1)
    with pytest.raises(Locked, match="somebody who left no name"):
        make("node-1").acquire()
