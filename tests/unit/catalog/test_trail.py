from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from etcdguard.catalog import Catalog
from etcdguard.catalog.standing import Verified
from etcdguard.catalog.trail import EVENT_FORMAT, NAMED_BEFORE, Trail
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import ObjectExists, StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import SIGNER, START, TRUSTED
from tests.support.faulty_store import Fault, FaultyStore, Rule

A, B = (f"20261121T020000Z-r{number:020d}-9f31c2aa" for number in (1, 2))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore("m")


def trail(store: MemoryStore | FaultyStore, cluster: str = "prod") -> Trail:
    return Catalog(store, cluster, TRUSTED).trail


def levels(trail: Trail) -> dict[str, str]:
    return {
        backup_id: standing.sound.level
        for backup_id, standing in trail.standing().items()
        if standing.sound is not None
    }


def failures(trail: Trail) -> dict[str, str]:
    return {
        backup_id: standing.failed.level
        for backup_id, standing in trail.standing().items()
        if standing.failed is not None
    }


def result(backup_id: str, level: str = "data", outcome: str = "ok") -> dict[str, str]:
    return {"id": backup_id, "level": level, "outcome": outcome}


def verified(
    store: MemoryStore, *results: Mapping[str, str], minute: int = 0, signer: SigningKey | None = SIGNER
) -> str:
    at = START + timedelta(minutes=minute)
    return trail(store).record("verify", {"results": results}, at=at, actor="node-1", signer=signer)


def place(store: MemoryStore, key: str, document: object) -> None:
    """A signed event at any place, as a later version or a mischief-maker would leave it."""
    raw = json.dumps(document).encode()
    store.put(key, raw)
    store.put(key + ".sig", SIGNER.sign(raw))


def test_an_event_is_signed_and_comes_back_as_it_was(store: MemoryStore) -> None:
    facts: dict[str, Any] = {"reason": "ä", "count": 3}
    key = trail(store).record("prune", facts, at=START, actor="node-1", signer=SIGNER)
    event = {
        "format": EVENT_FORMAT,
        "kind": "prune",
        "at": "2026-11-21T02:00:00+00:00",
        "actor": "node-1",
        "after": [],
        **facts,
    }
    assert trail(store).events("prune") == [event]
    assert trail(store).events("verify") == []
    raw, signature = (b"".join(store.get(name)) for name in (key, key + ".sig"))
    assert raw.endswith(b"}\n")
    assert SIGNER.public.verify(raw, signature)


def test_an_event_is_written_one_way_only(store: MemoryStore) -> None:
    """People read it with other tools, and a signature is over bytes."""
    key = trail(store).record("prune", {"reason": "ä", "count": 3}, at=START, actor="n", signer=None)
    expected = """{
  "actor": "n",
  "after": [],
  "at": "2026-11-21T02:00:00+00:00",
  "count": 3,
  "format": "etcdguard-event/1",
  "kind": "prune",
  "reason": "ä"
}
"""
    assert b"".join(store.get(key)).decode() == expected
    assert [info.key for info in store.list("")] == [key]


def test_what_is_no_json_is_not_written(store: MemoryStore) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        trail(store).record("prune", {"share": float("nan")}, at=START, actor="n", signer=SIGNER)
    assert list(store.list("")) == []


@pytest.mark.parametrize("signer", [None, SIGNER], ids=["unsigned", "signed"])
def test_no_event_is_overwritten(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, signer: SigningKey | None
) -> None:
    monkeypatch.setattr("etcdguard.catalog.trail.secrets.token_hex", lambda count: "ab" * count)
    key = trail(store).record("prune", {"n": 1}, at=START, actor="first", signer=signer)
    assert key == "prod/events/20261121T020000Z-prune-abababab.json"
    before = {info.key: b"".join(store.get(info.key)) for info in store.list("")}
    with pytest.raises(ObjectExists):
        trail(store).record("prune", {"n": 2}, at=START, actor="second", signer=signer)
    assert {info.key: b"".join(store.get(info.key)) for info in store.list("")} == before


@pytest.fixture
def far_west(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on whose clock it is still the day before."""
    monkeypatch.setenv("TZ", "Etc/GMT+12")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_west")
def test_events_stand_under_utc_whatever_the_zone_of_the_machine(store: MemoryStore) -> None:
    watched = FaultyStore(store)
    key = trail(watched).record("prune", {}, at=START, actor="n", signer=SIGNER)
    assert key.startswith("prod/events/20261121T020000Z-")
    assert watched.operations[0] == ("list", "prod/events/20261121")
    assert [event["actor"] for event in trail(store).events("prune")] == ["n"]


def test_what_came_before_is_looked_for_in_ever_longer_times(store: MemoryStore) -> None:
    watched = FaultyStore(store)
    trail(watched).record("verify", {"results": []}, at=START, actor="n", signer=None)
    looked = [
        key.removeprefix("prod/events/") for operation, key in watched.operations if operation == "list"
    ]
    assert looked == ["20261121", "202611", "2026", ""]


def test_events_come_oldest_first(store: MemoryStore) -> None:
    for minute in (5, 1, 3):
        verified(store, minute=minute)
    times = [event["at"] for event in trail(store).events("verify")]
    assert times == sorted(times)


def test_events_of_one_second_come_oldest_first_whatever_their_names(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["ffffffff", "77777777", "00000000"])
    monkeypatch.setattr("etcdguard.catalog.trail.secrets.token_hex", lambda _bytes: next(names))
    for microsecond, outcome in enumerate(["ok", "ok", "failed"]):
        at = START + timedelta(microseconds=microsecond)
        facts = {"results": [result("a", outcome=outcome)]}
        trail(store).record("verify", facts, at=at, actor="node-1", signer=SIGNER)
    told = [event["results"][0]["outcome"] for event in trail(store).events("verify")]
    assert told == ["ok", "ok", "failed"]
    assert trail(store).standing()["a"].sound is None


def test_an_event_names_those_before_it(store: MemoryStore) -> None:
    """Also over the turn of a day, a month and a year, and never more than it takes."""
    made: list[str] = []
    for number in range(NAMED_BEFORE + 4):
        at = START + timedelta(days=9 * number)
        key = trail(store).record("prune", {}, at=at, actor="node-1", signer=SIGNER)
        assert trail(store).events("prune")[-1]["after"] == made[-NAMED_BEFORE:]
        made.append(key.removeprefix("prod/events/"))


def test_a_busy_day_is_looked_at_alone(store: MemoryStore) -> None:
    for _ in range(NAMED_BEFORE):
        verified(store)
    watched = FaultyStore(store)
    trail(watched).record("verify", {"results": []}, at=START, actor="node-1", signer=SIGNER)
    assert [key for operation, key in watched.operations if operation == "list"] == ["prod/events/20261121"]


def test_the_level_is_the_deepest_since_the_last_failure(store: MemoryStore) -> None:
    assert levels(trail(store)) == {}
    verified(store, result(A, "data"), result(B, "manifest"), minute=1)
    verified(store, result(A, "manifest"), minute=2)
    assert levels(trail(store)) == {A: "data", B: "manifest"}
    verified(store, result(A, "manifest", "failed"), result(B, "drill"), minute=3)
    assert levels(trail(store)) == {B: "drill"}
    verified(store, result(A, "manifest"), minute=4)
    assert levels(trail(store)) == {A: "manifest", B: "drill"}


@pytest.mark.parametrize(
    ("kind", "knows"),
    [("backup", True), ("verify", True), ("prune", True), ("hold", True), ("restore", False)],
)
def test_what_was_done_to_backups_shows_that_there_were_some(
    store: MemoryStore, kind: str, knows: bool
) -> None:
    assert not trail(store).knows_backups()
    trail(store).record(kind, {}, at=START, actor="node-1", signer=None)
    assert trail(store).knows_backups() is knows


def test_a_failure_stands_until_something_as_deep_is_sound(store: MemoryStore) -> None:
    verified(store, result(A, "data", "failed"), result(B, "manifest", "failed"), minute=1)
    assert failures(trail(store)) == {A: "data", B: "manifest"}
    verified(store, result(A, "manifest"), result(B, "data"), minute=2)
    assert failures(trail(store)) == {A: "data"}
    assert levels(trail(store)) == {A: "manifest", B: "data"}
    assert trail(store).standing()[A].failed == Verified("data", START + timedelta(minutes=1))
    verified(store, result(A, "drill"), minute=3)
    assert failures(trail(store)) == {}


def test_an_event_nobody_trusted_signed_is_not_believed(store: MemoryStore) -> None:
    verified(store, result(A), signer=None)
    verified(store, result(A), signer=SigningKey.generate())
    key = verified(store, result(B))
    raw = b"".join(store.get(key)).replace(B.encode(), A.encode())
    store.put(key, raw)
    assert levels(trail(store)) == {}


def test_an_old_event_copied_to_a_later_time_is_not_believed(store: MemoryStore) -> None:
    """Otherwise the failure that came after it could be undone by anyone who may write."""
    good = verified(store, result(A), minute=1)
    verified(store, result(A, outcome="failed"), minute=2)
    later = trail(store)._layout.event(START + timedelta(minutes=3), "verify", "00000000")
    for end in ("", ".sig"):
        store.put(later + end, b"".join(store.get(good + end)))
    assert levels(trail(store)) == {}


def test_an_event_of_another_kind_under_our_name_is_not_believed(store: MemoryStore) -> None:
    document = {"format": EVENT_FORMAT, "kind": "prune", "at": START.isoformat(), "actor": "n"}
    place(store, "prod/events/20261121T020000Z-verify-00000000.json", document)
    assert levels(trail(store)) == {}


def test_a_signed_manifest_is_no_event(store: MemoryStore) -> None:
    place(store, "prod/events/20261121T020000Z-verify-00000000.json", {"format": "etcdguard/1"})
    assert trail(store).events("verify") == []


def test_formats_and_levels_of_later_versions_are_passed_over(store: MemoryStore) -> None:
    later = {"format": "etcdguard-event/2", "kind": "verify", "at": START.isoformat(), "results": 7}
    place(store, "prod/events/20261121T020000Z-verify-00000000.json", later)
    verified(store, result(A, "spectral"), result(B), minute=1)
    assert levels(trail(store)) == {B: "data"}


def test_a_cluster_called_like_a_kind(store: MemoryStore) -> None:
    odd = trail(store, "a-verify-b")
    odd.record("backup", {}, at=datetime.now(timezone.utc), actor="n", signer=SIGNER)
    assert levels(odd) == {}


def test_an_event_that_was_deleted_meanwhile(store: MemoryStore) -> None:
    key = verified(store, result(A))
    store.delete(key + ".sig")
    assert trail(store).events("verify") == []


@pytest.mark.parametrize("rule", [Rule(Fault.CUT_SHORT, "list"), Rule(Fault.TIMEOUT, "get")])
def test_a_store_that_fails_is_not_an_empty_trail(store: MemoryStore, rule: Rule) -> None:
    verified(store, result(A))
    with pytest.raises(StoreUnavailable):
        levels(trail(FaultyStore(store, [rule])))


def test_an_event_that_would_fill_our_memory_is_passed_over(store: MemoryStore) -> None:
    store.put("prod/events/20261121T020000Z-verify-00000000.json", bytes(2 * 1024 * 1024))
    verified(store, result(A))
    assert levels(trail(store)) == {A: "data"}
