"""RetryingStore on a clock that only sleeping moves."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from etcdguard.errors import AccessDenied, ObjectExists, ObjectNotFound, StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from etcdguard.storage.retry import RetryingStore, RetryPolicy
from tests.support.faulty_store import Fault, FaultyStore, Operation, Rule


class Time:
    """``clock`` shows what ``sleep`` has waited."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def clock(self) -> float:
        return 1000.0 + sum(self.pauses)


class Setup:
    def __init__(self, script: Sequence[Rule] = (), policy: RetryPolicy | None = None) -> None:
        self.memory = MemoryStore("memory")
        self.faulty = FaultyStore(self.memory, script)
        self.time = Time()
        self.store = RetryingStore(
            self.faulty, policy, sleep=self.time.sleep, rng=random.Random(1), clock=self.time.clock
        )

    def read(self, key: str) -> bytes:
        return b"".join(self.memory.get(key))


PASSING = [Fault.TIMEOUT, Fault.RESET, Fault.SERVER_ERROR, Fault.SLOW_DOWN]


@pytest.mark.parametrize("fault", PASSING)
def test_passing_faults_are_outlasted_by_every_operation(fault: Fault) -> None:
    operations: list[Operation] = [
        "put", "get", "head", "list", "delete", "multipart", "write_part", "complete", "abort",
        "stale_uploads", "abort_upload",
    ]  # fmt: skip
    setup = Setup([Rule(fault, operation, times=2) for operation in operations])
    store = setup.store
    store.put("a", b"data")
    assert b"".join(store.get("a")) == b"data"
    assert store.head("a").size == 4
    writer = store.multipart("b")
    writer.write_part(1, b"part")
    assert writer.complete().size == 4
    assert [info.key for info in store.list("")] == ["a", "b"]
    store.multipart("c").abort()
    store.multipart("d")
    (stale,) = store.stale_uploads("")
    store.abort_upload(stale)
    store.delete("a")
    assert [info.key for info in setup.memory.list("")] == ["b"]
    assert setup.memory.stale_uploads("") == []
    assert len(setup.time.pauses) == 2 * len(operations)


@pytest.mark.parametrize("operation", ["put", "delete", "complete", "write_part", "multipart"])
def test_lost_answers_are_harmless(operation: Operation) -> None:
    setup = Setup([Rule(Fault.LOST_ACK, operation, times=2)])
    setup.store.put("a", b"data")
    writer = setup.store.multipart("b")
    writer.write_part(1, b"part")
    assert writer.complete().size == 4
    setup.store.delete("a")
    assert [info.key for info in setup.memory.list("")] == ["b"]
    assert setup.read("b") == b"part"


@pytest.mark.parametrize("rule", [Rule(Fault.DENIED, "put"), Rule(Fault.DENIED, "put", times=None)])
def test_answers_are_not_retried(rule: Rule) -> None:
    setup = Setup([rule])
    with pytest.raises(AccessDenied):
        setup.store.put("a", b"1")
    with pytest.raises(ObjectNotFound):
        setup.store.head("missing")
    assert setup.time.pauses == []


# create-only


def test_a_create_whose_answer_was_lost_knows_its_own_bytes() -> None:
    setup = Setup([Rule(Fault.LOST_ACK, "put")])
    setup.store.put("manifest", b"mine", create_only=True)
    assert setup.read("manifest") == b"mine"


def test_a_create_does_not_take_another_writers_object_for_its_own() -> None:
    setup = Setup([Rule(Fault.TIMEOUT, "put")])
    setup.memory.put("manifest", b"them")
    with pytest.raises(ObjectExists):
        setup.store.put("manifest", b"mine", create_only=True)
    assert setup.read("manifest") == b"them"


def test_without_a_fault_a_taken_key_is_taken_even_with_the_same_bytes() -> None:
    setup = Setup()
    setup.memory.put("manifest", b"mine")
    with pytest.raises(ObjectExists):
        setup.store.put("manifest", b"mine", create_only=True)


def test_the_comparison_itself_is_retried() -> None:
    script = [Rule(Fault.LOST_ACK, "put"), Rule(Fault.RESET, "head"), Rule(Fault.CUT_SHORT, "get")]
    setup = Setup(script)
    setup.store.put("manifest", b"mine", create_only=True)
    assert len(setup.time.pauses) == 3


# reading


def test_a_body_is_taken_up_where_it_broke_off() -> None:
    data = bytes(range(256)) * 20_000
    setup = Setup([Rule(Fault.CUT_SHORT, "get", times=5)])
    setup.memory.put("big", data)
    assert b"".join(setup.store.get("big")) == data
    assert b"".join(setup.store.get("big", offset=1000, length=70_000)) == data[1000:71_000]


def test_ranges_are_resumed_within_their_bounds() -> None:
    setup = Setup([Rule(Fault.CUT_SHORT, "get", times=3)])
    setup.memory.put("digits", b"0123456789")
    assert b"".join(setup.store.get("digits", offset=2, length=6)) == b"234567"


def test_progress_renews_patience() -> None:
    setup = Setup([Rule(Fault.CUT_SHORT, "get", times=12)], RetryPolicy(attempts=2))
    setup.memory.put("big", b"x" * 8192)
    assert len(b"".join(setup.store.get("big"))) == 8192
    assert len(setup.time.pauses) == 12


def test_a_listing_is_whole_or_begun_anew() -> None:
    setup = Setup([Rule(Fault.CUT_SHORT, "list", times=3)])
    for number in range(10):
        setup.memory.put(f"k{number}", b"")
    assert [info.key for info in setup.store.list("")] == [f"k{number}" for number in range(10)]


def test_a_listing_that_never_completes_raises_before_the_first_key() -> None:
    setup = Setup([Rule(Fault.CUT_SHORT, "list", times=None)])
    for number in range(10):
        setup.memory.put(f"k{number}", b"")
    with pytest.raises(StoreUnavailable):
        setup.store.list("")


# patience


def test_attempts_run_out_and_are_told() -> None:
    setup = Setup([Rule(Fault.SLOW_DOWN, "head", times=None)], RetryPolicy(attempts=4))
    with pytest.raises(
        StoreUnavailable, match=r"SlowDown \(503\) \(gave up after 4 attempts in \d+ s\)"
    ) as e:
        setup.store.head("a")
    assert isinstance(e.value.__cause__, StoreUnavailable)
    assert e.value.hint == e.value.__cause__.hint
    assert len(setup.time.pauses) == 3


def test_the_budget_runs_out_before_the_attempts() -> None:
    policy = RetryPolicy(attempts=1000, budget=30.0, first_delay=1.0, longest_delay=8.0)
    setup = Setup([Rule(Fault.TIMEOUT, "put", times=None)], policy)
    with pytest.raises(StoreUnavailable, match="gave up after"):
        setup.store.put("a", b"1")
    assert sum(setup.time.pauses) <= 30.0
    assert sum(setup.time.pauses) > 30.0 - 8.0


def test_full_jitter_stays_below_a_doubling_ceiling() -> None:
    policy = RetryPolicy(first_delay=0.5, longest_delay=6.0)
    rng = random.Random(7)
    highest = [max(policy.pause(n, rng) for _ in range(2000)) for n in range(1, 8)]
    lowest = [min(policy.pause(n, rng) for _ in range(2000)) for n in range(1, 8)]
    ceilings = [0.5, 1.0, 2.0, 4.0, 6.0, 6.0, 6.0]
    assert all(0.95 * ceiling < high <= ceiling for high, ceiling in zip(highest, ceilings, strict=True))
    assert all(low < 0.05 * ceiling for low, ceiling in zip(lowest, ceilings, strict=True))
    assert all(first <= second for first, second in pairwise(ceilings))
