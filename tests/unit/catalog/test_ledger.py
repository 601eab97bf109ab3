from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from etcdguard.catalog import Catalog
from etcdguard.catalog.ledger import SLOT_FORMAT, Decision, Ledger
from etcdguard.errors import Corruption, ObjectExists, StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, START, TRUSTED
from tests.support.faulty_store import Fault, FaultyStore, Rule

FIRST, SECOND = "20261121T020000Z", "20261121T080000Z"
KEY = f"prod/slots/backup/{FIRST}.json"
MISSED = f"prod/slots/backup/{FIRST}.missed.json"
MINE, THEIRS = (f"20261121T02000{n}Z-r{n:020d}-9f31c2aa" for n in (1, 2))
UNREADABLE = [b"", b"{", b"\xff", b"[]", b"7", b"{}", b"[" * 100_000]
NAMES = ["empty", "half", "no text", "a list", "a number", "no facts", "too deep"]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("m")


def ledger(store: MemoryStore | FaultyStore) -> Ledger:
    return Catalog(store, CLUSTER, TRUSTED).ledger


def document(store: MemoryStore, key: str) -> object:
    return json.loads(b"".join(store.get(key)))


def test_the_first_to_ask_has_the_slot_and_everybody_is_told(store: MemoryStore) -> None:
    assert ledger(store).decision(FIRST) is None
    first = Decision(FIRST, MINE, "node-1")
    assert ledger(store).decide(FIRST, MINE, node="node-1", at=START) == first
    later = START + timedelta(seconds=1)
    assert ledger(store).decide(FIRST, THEIRS, node="node-2", at=later) == first
    assert ledger(store).decide(FIRST, MINE, node="node-1", at=later) == first
    assert ledger(store).decision(FIRST) == first
    assert ledger(store).decision(SECOND) is None


def test_a_decision_is_written_as_documented(store: MemoryStore) -> None:
    ledger(store).decide(FIRST, MINE, node="node-1", at=START)
    raw = b"".join(store.get(KEY))
    assert raw.startswith(b'{\n  "at": ')
    assert raw.endswith(b"\n}\n")
    at = "2026-11-21T02:00:00+00:00"
    facts = {"format": "etcdguard-slot/1", "slot": FIRST, "node": "node-1", "at": at, "backup": MINE}
    assert document(store, KEY) == facts
    assert SLOT_FORMAT == "etcdguard-slot/1"


@pytest.mark.parametrize("raw", UNREADABLE, ids=NAMES)
def test_a_decision_that_cannot_be_read_is_not_decided_anew(store: MemoryStore, raw: bytes) -> None:
    store.put(KEY, raw)
    uses: list[Callable[[], object]] = [
        lambda: ledger(store).decision(FIRST),
        lambda: ledger(store).decide(FIRST, MINE, node="node-1", at=START),
    ]
    for use in uses:
        with pytest.raises(Corruption) as caught:
            use()
        assert caught.value.message == f"repository m: the record of slot {FIRST} is unreadable"
        assert (
            caught.value.hint == "delete it if no backup names this slot; 'etcdguard list' shows the backups"
        )
    assert b"".join(store.get(KEY)) == raw


class WithdrawingStore(MemoryStore):
    """Somebody deletes the record between our write, which it stopped, and our look at it."""

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        try:
            super().put(key, data, create_only=create_only)
        except ObjectExists:
            self.delete(key)
            raise


def test_a_record_that_went_away_between_two_looks_decides_nothing() -> None:
    """Nobody has the slot now: to say it was ours would be as untrue as to say it was theirs."""
    store = WithdrawingStore("m")
    store.put(KEY, b"{}")
    with pytest.raises(ObjectExists):
        ledger(store).decide(FIRST, MINE, node="node-1", at=START)
    assert ledger(store).decision(FIRST) is None


def test_the_slots_of_some_days(store: MemoryStore) -> None:
    """The days of both ends are looked at whole; no other is."""
    slots = {day: f"202611{day}T120000Z" for day in (19, 20, 21, 22, 23)}
    for slot in slots.values():
        ledger(store).decide(slot, MINE, node="node-1", at=START)
    ledger(store).record_missed(FIRST, "no quorum", node="node-1", at=START)
    ledger(store).record_missed(slots[21], "late", node="node-1", at=START)
    since, until = (datetime(2026, 11, day, 13, tzinfo=timezone.utc) for day in (20, 22))
    watched = FaultyStore(store)
    decided, missed = ledger(watched).known(since, until)
    assert decided == {slots[20], slots[21], slots[22]}
    assert missed == {FIRST, slots[21]}
    days = [("list", f"prod/slots/backup/202611{day}") for day in (20, 21, 22)]
    assert watched.operations == days
    assert ledger(store).known(until, since) == (set(), set())


def test_why_a_slot_was_missed_is_said_once(store: MemoryStore) -> None:
    assert ledger(store).why_missed(FIRST) is None
    ledger(store).record_missed(FIRST, "no quorum", node="node-1", at=START)
    ledger(store).record_missed(FIRST, "we slept", node="node-2", at=START + timedelta(hours=1))
    assert ledger(store).why_missed(FIRST) == "no quorum"
    at = "2026-11-21T02:00:00+00:00"
    facts = {"format": SLOT_FORMAT, "slot": FIRST, "node": "node-1", "at": at, "missed": "no quorum"}
    assert document(store, MISSED) == facts
    assert ledger(store).decision(FIRST) is None


@pytest.mark.parametrize("raw", [*UNREADABLE, bytes(2 * 1024 * 1024)], ids=[*NAMES, "too large"])
def test_a_reason_that_cannot_be_read_is_none(store: MemoryStore, raw: bytes) -> None:
    store.put(MISSED, raw)
    assert ledger(store).why_missed(FIRST) is None


def test_the_records_before_a_moment(store: MemoryStore) -> None:
    """Decided and missed alike; that of the moment itself is not before it."""
    ledger(store).decide(FIRST, MINE, node="node-1", at=START)
    ledger(store).record_missed(FIRST, "late", node="node-1", at=START)
    ledger(store).decide(SECOND, MINE, node="node-1", at=START)
    assert ledger(store).before(START) == []
    assert sorted(ledger(store).before(START + timedelta(seconds=1))) == [KEY, MISSED]
    assert len(ledger(store).before(START + timedelta(days=1))) == 3


@pytest.mark.parametrize(
    "rule",
    [Rule(Fault.TIMEOUT, "get", times=None), Rule(Fault.CUT_SHORT, "list", times=None)],
    ids=["reading", "listing"],
)
def test_a_store_that_fails_is_not_an_empty_ledger(store: MemoryStore, rule: Rule) -> None:
    ledger(store).decide(FIRST, MINE, node="node-1", at=START)
    found = ledger(FaultyStore(store, [rule]))
    use: Callable[[], object] = (
        (lambda: (found.decision(FIRST), found.why_missed(FIRST)))
        if rule.operation == "get"
        else (lambda: found.known(START, START))
    )
    with pytest.raises(StoreUnavailable):
        use()
