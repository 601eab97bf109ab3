"""What a store must say before anything in it is deleted, over every implementation."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from etcdguard.errors import ObjectNotFound
from etcdguard.storage.base import Lock, RepositoryStore
from etcdguard.storage.memory import MemoryStore
from etcdguard.storage.s3 import ObjectLock, S3Store
from tests.support.backups import START
from tests.support.s3_servers import S3Server, make_bucket

_CLOCKS_APART = timedelta(minutes=2)


def test_objects_are_dated_by_the_store(store: RepositoryStore) -> None:
    store.put("small", b"1")
    writer = store.multipart("large")
    writer.write_part(1, b"2")
    writer.complete()
    now = START if "memory" in store.name else datetime.now(timezone.utc)
    listed = {info.key: info.modified for info in store.list("")}
    assert set(listed) == {"small", "large"}
    for key, modified in listed.items():
        assert modified is not None
        assert abs(modified - now) < _CLOCKS_APART
        head = store.head(key).modified
        assert head is not None
        assert abs(head - modified) < timedelta(seconds=1)  # a listing may show fractions


def test_the_folders_of_a_store(store: RepositoryStore) -> None:
    keys = ("a/1", "a/2/3", "a/2/4", "b-c/backups/x", "b/4", "c")
    assert list(store.folders("")) == []
    for key in keys:
        store.put(key, b"1")
    assert list(store.folders("")) == ["a", "b", "b-c"]
    assert list(store.folders("a/")) == ["2"]
    assert list(store.folders("c/")) == []
    assert list(store.folders("nowhere/")) == []


def test_the_time_of_a_store_is_that_of_its_clock(store: RepositoryStore) -> None:
    time = store.time()
    assert (time is None) != isinstance(store, S3Store)
    if time is not None:
        assert abs(time - datetime.now(timezone.utc)) < _CLOCKS_APART


def test_what_is_not_locked_may_be_deleted(store: RepositoryStore) -> None:
    store.put("free", b"1")
    assert store.lock("free") is None
    with pytest.raises(ObjectNotFound):
        store.lock("absent")


def test_a_lock_in_memory() -> None:
    store = MemoryStore("memory")
    store.put("kept", b"1")
    store.locks["kept"] = Lock(START, "GOVERNANCE")
    assert store.lock("kept") == Lock(START, "GOVERNANCE")


def test_an_object_lock_is_read_back_from_the_server(s3_server: S3Server) -> None:
    bucket = make_bucket(s3_server, object_lock=True)
    until = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(minutes=3)
    options = replace(s3_server.options(bucket), object_lock=ObjectLock("GOVERNANCE", until=until))
    store = S3Store(options, session=s3_server.session())
    store.put("locked", b"1")
    writer = store.multipart("large")
    writer.write_part(1, b"2")
    writer.complete()
    for key in ("locked", "large"):
        assert store.lock(key) == Lock(until, "GOVERNANCE")
