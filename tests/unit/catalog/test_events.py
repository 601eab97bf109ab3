from __future__ import annotations

import json
from datetime import timedelta

import pytest

from etcdguard.catalog.events import EVENT_FORMAT, Event, read_event
from etcdguard.catalog.layout import Layout
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import SIGNER, START, TRUSTED
from tests.support.faulty_store import Fault, FaultyStore, Rule

LAYOUT = Layout("prod")
KEY = LAYOUT.event(START, "verify", "0badcafe")
FACTS = {"format": "etcdguard-event/1", "kind": "verify", "at": START.isoformat(), "actor": "n"}
RAW = json.dumps(FACTS).encode()
LARGE = bytes(1024 * 1024 + 1)
OURS = SIGNER.public.fingerprint


def stored(raw: bytes, signature: bytes | None) -> MemoryStore:
    store = MemoryStore("m")
    store.put(KEY, raw)
    if signature is not None:
        store.put(KEY + ".sig", signature)
    return store


def read(store: MemoryStore | FaultyStore) -> Event | None:
    return read_event(store, LAYOUT, TRUSTED, KEY)


def test_an_event_that_is_believed_says_who_signed_it_and_when_it_was() -> None:
    event = read(stored(RAW, SIGNER.sign(RAW)))
    assert event == Event(KEY, "valid", OURS, FACTS)
    assert FACTS["format"] == EVENT_FORMAT
    assert event.at == START
    assert event.name == "20261121T020000Z-verify-0badcafe.json"


def test_one_that_was_deleted_since_it_was_listed_is_none() -> None:
    assert read(MemoryStore("m")) is None


@pytest.mark.parametrize(
    ("raw", "signature", "trust"),
    [
        (RAW, None, "missing"),
        (RAW, b"", "invalid"),
        (RAW, SIGNER.sign(RAW + b"\n"), "invalid"),
        (RAW, SigningKey.generate().sign(RAW), "invalid"),
        (RAW, LARGE, "invalid"),
        (LARGE, SIGNER.sign(LARGE), "invalid"),
    ],
    ids=["unsigned", "empty", "of other bytes", "by somebody else", "too large", "of too much"],
)
def test_what_nobody_trusted_has_signed_tells_nothing(
    raw: bytes, signature: bytes | None, trust: str
) -> None:
    event = read(stored(raw, signature))
    assert event is not None
    assert (event.key, event.trust, event.signer, dict(event.facts)) == (KEY, trust, None, {})


@pytest.mark.parametrize(
    ("changes", "trust"),
    [
        ({"format": "etcdguard-event/2"}, "newer"),
        ({"kind": "prune"}, "displaced"),
        ({"at": (START + timedelta(seconds=1)).isoformat()}, "displaced"),
    ],
    ids=["of a later version", "of another kind", "of another time"],
)
def test_what_we_signed_but_cannot_use_names_its_signer_only(changes: dict[str, str], trust: str) -> None:
    raw = json.dumps({**FACTS, **changes}).encode()
    event = read(stored(raw, SIGNER.sign(raw)))
    assert event is not None
    assert (event.key, event.trust, event.signer, dict(event.facts)) == (KEY, trust, OURS, {})


@pytest.mark.parametrize("skip", [0, 1], ids=["at the event", "at its signature"])
def test_a_store_that_fails_is_not_an_event_that_went(skip: int) -> None:
    store = FaultyStore(stored(RAW, SIGNER.sign(RAW)), [Rule(Fault.TIMEOUT, "get", skip=skip)])
    with pytest.raises(StoreUnavailable):
        read(store)
