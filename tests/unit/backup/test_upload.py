from __future__ import annotations

import hashlib
import random
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from etcdguard.backup.growing import GrowingObject
from etcdguard.backup.upload import ABANDONED_AFTER, abort_orphans, upload_object
from etcdguard.errors import AccessDenied, Corruption, EtcdGuardError, SpoolFailed, StoreUnavailable
from etcdguard.model import ObjectEntry
from etcdguard.progress import NoProgress
from etcdguard.storage.base import ObjectInfo
from etcdguard.storage.memory import MemoryMultipart, MemoryStore
from tests.support.faulty_store import Fault, FaultyStore, Operation, Rule

PART = 1000
KEY = "prod/backups/x/snapshot.db.zst.age"
NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdguard.backup.upload.PART_SIZE", PART)


class Counting(NoProgress):
    def __init__(self) -> None:
        self.bytes = 0

    def advance(self, count: int) -> None:
        self.bytes += count


class WatchedStore(MemoryStore):
    """Notes the size of every part, and how many are written at once."""

    def __init__(self, min_part_size: int = 1) -> None:
        super().__init__("m", now=lambda: NOW)
        self.min_part_size = min_part_size
        self.parts: dict[int, int] = {}
        self.at_once = self.most_at_once = 0
        self.mutex = threading.Lock()

    def multipart(self, key: str) -> MemoryMultipart:
        writer = super().multipart(key)
        writer.min_part_size = self.min_part_size
        original = writer.write_part

        def write_part(number: int, data: bytes) -> None:
            with self.mutex:
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
            self.parts[number] = len(data)
            threading.Event().wait(0.01)
            original(number, data)
            with self.mutex:
                self.at_once -= 1

        writer.write_part = write_part  # type: ignore[method-assign]
        return writer


def spooled(tmp_path: Path, size: int) -> tuple[Path, ObjectEntry, bytes]:
    data = random.Random(size).randbytes(size)
    path = tmp_path / "snapshot.bin"
    path.write_bytes(data)
    return path, ObjectEntry(key="k", bytes=size, sha256=hashlib.sha256(data).hexdigest()), data


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 3 * PART, 10 * PART + 7])
def test_every_byte_arrives(tmp_path: Path, size: int) -> None:
    store, progress = MemoryStore("m"), Counting()
    path, entry, data = spooled(tmp_path, size)
    for _ in range(2):  # repeating it is harmless
        upload_object(store, KEY, GrowingObject(path, entry), progress)
        assert b"".join(store.get(KEY)) == data
    assert progress.bytes == 2 * size
    assert store.stale_uploads("") == []


def test_memory_is_bounded_by_three_parts_at_once(tmp_path: Path) -> None:
    store = WatchedStore()
    path, entry, _ = spooled(tmp_path, 20 * PART + 1)
    upload_object(store, KEY, GrowingObject(path, entry), NoProgress())
    assert store.most_at_once == 3
    assert store.parts == {**dict.fromkeys(range(1, 21), PART), 21: 1}


def test_parts_are_as_large_as_the_store_wants(tmp_path: Path) -> None:
    store = WatchedStore(min_part_size=2500)
    path, entry, _ = spooled(tmp_path, 6000)
    upload_object(store, KEY, GrowingObject(path, entry), NoProgress())
    assert store.parts == {1: 2500, 2: 2500, 3: 1000}


def test_there_are_never_more_parts_than_s3_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etcdguard.backup.upload._MAX_PARTS", 4)
    store = WatchedStore()
    path, entry, _ = spooled(tmp_path, 10 * PART + 1)
    upload_object(store, KEY, GrowingObject(path, entry), NoProgress())
    assert len(store.parts) == 4


@pytest.mark.parametrize("size", [PART // 2, 5 * PART], ids=["put", "multipart"])
@pytest.mark.parametrize("damage", ["flip first", "flip last", "cut", "cut to a part", "grow", "empty"])
def test_a_damaged_spool_never_becomes_an_object(tmp_path: Path, size: int, damage: str) -> None:
    path, entry, data = spooled(tmp_path, size)
    damaged = {
        "flip first": bytes([data[0] ^ 1]) + data[1:],
        "flip last": data[:-1] + bytes([data[-1] ^ 1]),
        "cut": data[:-1],
        "cut to a part": data[: size - min(PART, size - 1)],
        "grow": data + b"x",
        "empty": b"",
    }[damage]
    path.write_bytes(damaged)
    watched = FaultyStore(MemoryStore("m"))
    with pytest.raises(Corruption, match="no longer what was written") as failure:
        upload_object(watched, KEY, GrowingObject(path, entry), NoProgress())
    assert "take a new backup" in failure.value.hint
    assert list(watched.list("")) == []
    operations = [operation for operation, _ in watched.operations]
    assert not {"put", "complete"} & set(operations)
    assert operations.count("write_part") < 5 or damage == "grow", "its last part is never handed out"
    assert watched.stale_uploads("") == []


def test_a_spool_that_cannot_be_read(tmp_path: Path) -> None:
    path, entry, _ = spooled(tmp_path, PART)
    path.unlink()
    with pytest.raises(SpoolFailed, match="cannot read the spool"):
        upload_object(MemoryStore("m"), KEY, GrowingObject(path, entry), NoProgress())


class LosingStore(MemoryStore):
    """Acknowledges everything and keeps a byte less."""

    def head(self, key: str) -> ObjectInfo:
        return ObjectInfo(key, super().head(key).size - 1)


@pytest.mark.parametrize("size", [PART // 2, 5 * PART])
def test_a_store_that_holds_less_than_it_acknowledged(tmp_path: Path, size: int) -> None:
    path, entry, _ = spooled(tmp_path, size)
    with pytest.raises(Corruption, match=f"acknowledged {size} bytes of .* and holds {size - 1}") as failure:
        upload_object(LosingStore("m"), KEY, GrowingObject(path, entry), NoProgress())
    assert "loses data" in failure.value.hint


@pytest.mark.parametrize("operation", ["multipart", "write_part", "complete", "head"])
@pytest.mark.parametrize(("fault", "kind"), [(Fault.RESET, StoreUnavailable), (Fault.DENIED, AccessDenied)])
def test_a_failed_upload_is_aborted(
    tmp_path: Path, operation: Operation, fault: Fault, kind: type[EtcdGuardError]
) -> None:
    path, entry, _ = spooled(tmp_path, 5 * PART)
    store = FaultyStore(MemoryStore("m"), [Rule(fault, operation, skip=2 * (operation == "write_part"))])
    with pytest.raises(kind, match=operation):
        upload_object(store, KEY, GrowingObject(path, entry), NoProgress())
    assert store.stale_uploads("") == []
    assert [info.key for info in store.list("")] == ([KEY] if operation == "head" else [])


def test_an_abort_that_fails_does_not_hide_why(tmp_path: Path) -> None:
    path, entry, _ = spooled(tmp_path, 5 * PART)
    inner = MemoryStore("m")
    store = FaultyStore(inner, [Rule(Fault.DENIED, "complete"), Rule(Fault.RESET, "abort")])
    with pytest.raises(AccessDenied, match="complete"):
        upload_object(store, KEY, GrowingObject(path, entry), NoProgress())
    assert [upload.key for upload in inner.stale_uploads("")] == [KEY]
    assert abort_orphans(inner, "prod/", KEY, NOW) == 1
    assert inner.stale_uploads("") == []


def test_orphans_are_ours_by_key_or_nobodys_by_age() -> None:
    moment = NOW
    store = MemoryStore("m", now=lambda: moment)
    store.multipart("prod/backups/old/snapshot.db.zst.age")
    store.multipart("other-cluster/backups/old/snapshot.db.zst.age")
    moment = NOW + ABANDONED_AFTER
    store.multipart("prod/backups/running/snapshot.db.zst.age")
    store.multipart(KEY)
    moment += timedelta(seconds=1)
    assert abort_orphans(store, "prod/", KEY, moment) == 2
    assert [upload.key for upload in store.stale_uploads("")] == [
        "other-cluster/backups/old/snapshot.db.zst.age",
        "prod/backups/running/snapshot.db.zst.age",
    ]
