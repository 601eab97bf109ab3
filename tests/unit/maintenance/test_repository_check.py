"""The check tells what is wrong with a store, names it, and leaves nothing behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from etcdguard.maintenance.repository_check import check_repository
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.storage.base import ObjectInfo, ObjectStore
from etcdguard.storage.memory import MemoryMultipart, MemoryStore
from tests.support.faulty_store import Fault, FaultyStore, Operation, Rule

NOW = datetime(2026, 11, 21, 2, 0, tzinfo=timezone.utc)
STEPS = ["write", "create-only", "read", "range", "list", "multipart", "delete", "list-after-delete"]


def check(store: ObjectStore) -> dict[str, CheckResult]:
    results = check_repository(store, "prod", now=NOW, rng=random.Random(1))
    return {result.name.removeprefix("repository.store."): result for result in results}


def bad_steps(results: dict[str, CheckResult]) -> list[str]:
    return [name for name, result in results.items() if result.outcome is not Outcome.OK]


class IgnoresConditions(MemoryStore):
    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        super().put(key, data)


class FlipsBits(MemoryStore):
    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        for piece in super().get(key, offset=offset, length=length):
            yield bytes([piece[0] ^ 1]) + piece[1:]


class IgnoresRanges(MemoryStore):
    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        return super().get(key)


class ListsNothing(MemoryStore):
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        return iter(())


class NeverDeletes(MemoryStore):
    def delete(self, key: str) -> None:
        pass


class CompletesOnAbort(MemoryStore):
    def multipart(self, key: str) -> MemoryMultipart:
        writer = super().multipart(key)
        self.abort_upload = lambda upload: self.put(upload.key, b"half")  # type: ignore[method-assign]
        return writer


def test_a_good_store_passes_every_step_and_is_left_as_it_was() -> None:
    store = MemoryStore("store")
    store.put("prod/backups/x/manifest.json", b"{}")
    results = check(store)
    assert list(results) == STEPS
    assert bad_steps(results) == []
    assert all(result.value and result.hint is None for result in results.values())
    assert [info.key for info in store.list("")] == ["prod/backups/x/manifest.json"]
    assert store.stale_uploads("") == []


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (IgnoresConditions, ["create-only"]),
        (FlipsBits, ["read", "range"]),
        (IgnoresRanges, ["range"]),
        (ListsNothing, ["list"]),
        (NeverDeletes, ["list-after-delete"]),
        (CompletesOnAbort, ["multipart"]),
    ],
)
def test_a_store_that_lies_fails_exactly_where_it_does(kind: type[MemoryStore], bad: list[str]) -> None:
    results = check(kind("store"))
    assert list(results) == STEPS
    assert bad_steps(results) == bad
    assert all(results[step].outcome is Outcome.FAIL and results[step].hint for step in bad)


def test_a_store_without_conditional_writes_is_named_as_such() -> None:
    result = check(IgnoresConditions("store"))["create-only"]
    assert "If-None-Match" in result.value
    assert result.hint is not None
    assert "conditional_writes" in result.hint


@pytest.mark.parametrize(
    ("operation", "step"),
    [("get", "read"), ("list", "list"), ("multipart", "multipart"), ("write_part", "multipart")],
)
def test_a_failing_step_is_reported_and_the_rest_still_run(operation: Operation, step: str) -> None:
    memory = MemoryStore("store")
    results = check(FaultyStore(memory, [Rule(Fault.DENIED, operation)]))
    assert list(results) == STEPS
    assert bad_steps(results) == [step]
    assert "AccessDenied" in results[step].value
    assert list(memory.list("")) == []
    assert memory.stale_uploads("") == []


def test_without_write_permission_there_is_one_line() -> None:
    memory = MemoryStore("store")
    results = check(FaultyStore(memory, [Rule(Fault.DENIED, "put", times=None)]))
    assert list(results) == ["write"]
    assert results["write"].outcome is Outcome.FAIL


def test_a_canary_whose_write_was_not_acknowledged_is_removed() -> None:
    memory = MemoryStore("store")
    assert list(check(FaultyStore(memory, [Rule(Fault.LOST_ACK, "put")]))) == ["write"]
    assert list(memory.list("")) == []


def test_append_only_credentials_are_a_warning_that_names_the_canary() -> None:
    memory = MemoryStore("store")
    results = check(FaultyStore(memory, [Rule(Fault.DENIED, "delete", times=None)]))
    assert results["delete"].outcome is Outcome.WARN
    (left,) = memory.list("")
    assert left.key in results["delete"].value
    assert "list-after-delete" not in results


def test_the_canary_is_removed_even_when_the_check_is_interrupted() -> None:
    memory = MemoryStore("store")

    class Interrupted(FaultyStore):
        def head(self, key: str) -> ObjectInfo:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(Interrupted(memory))
    assert list(memory.list("")) == []
