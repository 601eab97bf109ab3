from __future__ import annotations

import json

import pytest

from etcdguard.catalog.holds import HOLD_FORMAT, Hold, read_hold
from etcdguard.catalog.layout import Layout
from etcdguard.errors import StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import START
from tests.support.faulty_store import Fault, FaultyStore, Rule

LAYOUT = Layout("prod")
ID = "20261121T020000Z-r00000000000000005033-9f31c2aa"
KEY = LAYOUT.hold(ID)
SOUND = {"format": "etcdguard-hold/1", "reason": "migration", "at": START.isoformat(), "actor": "cp1"}


def read(raw: bytes) -> Hold | None:
    store = MemoryStore("m")
    store.put(KEY, raw)
    return read_hold(store, LAYOUT, KEY)


def test_a_hold_says_who_and_why() -> None:
    assert SOUND["format"] == HOLD_FORMAT
    assert read(json.dumps(SOUND).encode()) == Hold(ID, "migration", START.isoformat(), "cp1")


def test_one_that_was_taken_off_since_it_was_listed_is_none() -> None:
    assert read_hold(MemoryStore("m"), LAYOUT, KEY) is None


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"\xff", b"null", b"[1]", b"[" * 100_000, b" " * (1024 * 1024 + 1)],
    ids=["empty", "half", "no text", "nothing", "a list", "too deep", "too large"],
)
def test_what_cannot_be_read_holds_and_says_nothing(raw: bytes) -> None:
    assert read(raw) == Hold(ID, None, None, None)


def test_of_another_format_nothing_is_believed() -> None:
    later = {**SOUND, "format": "etcdguard-hold/2"}
    assert read(json.dumps(later).encode()) == Hold(ID, None, None, None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reason", Hold(ID, None, START.isoformat(), "cp1")),
        ("at", Hold(ID, "migration", None, "cp1")),
        ("actor", Hold(ID, "migration", START.isoformat(), None)),
    ],
)
def test_a_fact_that_is_no_text_is_left_out_alone(name: str, expected: Hold) -> None:
    missing = {one: value for one, value in SOUND.items() if one != name}
    for damaged in ({**SOUND, name: 7}, missing):
        assert read(json.dumps(damaged).encode()) == expected


def test_a_store_that_fails_is_not_a_hold_that_went() -> None:
    store = MemoryStore("m")
    store.put(KEY, json.dumps(SOUND).encode())
    with pytest.raises(StoreUnavailable):
        read_hold(FaultyStore(store, [Rule(Fault.TIMEOUT, "get")]), LAYOUT, KEY)
