"""The faults tests rely on really happen."""

from __future__ import annotations

import pytest

from etcdguard.errors import AccessDenied, StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from tests.support.faulty_store import Fault, FaultyStore, Rule, SimulatedCrash


def test_rules_count_matching_calls_only() -> None:
    store = FaultyStore(MemoryStore("m"), [Rule(Fault.DENIED, "put", key="manifest", skip=1, times=2)])
    store.put("data", b"1")
    store.put("a/manifest", b"1")
    for _ in range(2):
        with pytest.raises(AccessDenied):
            store.put("b/manifest", b"1")
    store.put("b/manifest", b"1")
    assert [key for _, key in store.operations] == ["data", "a/manifest", "b/manifest"]


def test_a_lost_answer_means_it_happened() -> None:
    memory = MemoryStore("m")
    with pytest.raises(StoreUnavailable):
        FaultyStore(memory, [Rule(Fault.LOST_ACK, "put")]).put("a", b"1")
    assert memory.head("a").size == 1


def test_cut_short_delivers_half_and_raises() -> None:
    memory = MemoryStore("m")
    memory.put("a", b"12345678")
    memory.put("b", b"")
    store = FaultyStore(memory, [Rule(Fault.CUT_SHORT, "get"), Rule(Fault.CUT_SHORT, "list")])
    body = store.get("a")
    assert next(body) == b"1234"
    with pytest.raises(StoreUnavailable):
        next(body)
    listing = store.list("")
    assert next(listing).key == "a"
    with pytest.raises(StoreUnavailable):
        next(listing)


@pytest.mark.parametrize(("fault", "operation"), [(Fault.CUT_SHORT, "put"), (Fault.LOST_ACK, "get")])
def test_impossible_rules_are_refused(fault: Fault, operation: str) -> None:
    with pytest.raises(ValueError, match="cannot happen"):
        Rule(fault, operation)  # type: ignore[arg-type]


def test_a_crashed_process_does_nothing_more() -> None:
    memory = MemoryStore("m")
    store = FaultyStore(memory, crash_after=2)
    writer = store.multipart("big")
    writer.write_part(1, b"1")
    for call in (writer.complete, writer.abort, lambda: store.put("a", b""), lambda: list(store.get("a"))):
        with pytest.raises(SimulatedCrash):
            call()
    assert list(memory.list("")) == []
    assert [upload.key for upload in memory.stale_uploads("")] == ["big"]
    assert not isinstance(SimulatedCrash(), Exception)
