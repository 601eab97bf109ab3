from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from etcdguard.crypto.recipients import Identity, generate_identity
from etcdguard.download import download
from etcdguard.errors import (
    Corruption,
    EtcdGuardError,
    ObjectNotFound,
    Refused,
    StoreUnavailable,
    UsageError,
    WrongKey,
)
from etcdguard.progress import NoProgress
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import IDENTITY, Node, catalog_of, database
from tests.support.bolt_writer import with_trailer
from tests.support.faulty_store import Fault, FaultyStore, Rule

SNAPSHOT = with_trailer(database(20))


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    made = MemoryStore("m")
    node = Node(tmp_path / "spool")
    for revision in (19, 20):
        node.backup(revision, made)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "snapshot.db"


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_only_what_somebody_trusted_has_signed_is_written_unless_told(
    store: MemoryStore, target: Path
) -> None:
    backup = catalog_of(store).resolve("latest")
    key = f"prod/backups/{backup.id}/manifest.json.sig"
    for signature, error in ((None, Refused), (bytes(64), Corruption)):
        store.delete(key)
        if signature is not None:
            store.put(key, signature)
        with pytest.raises(error, match="not signed"):
            get(store, target)
        assert names(target.parent) == []
    assert get(store, target, allow_unsigned=True) == backup.id
    assert target.read_bytes() == SNAPSHOT


def get(
    store: RepositoryStore,
    target: Path,
    *,
    reference: str = "latest",
    identity: Identity = IDENTITY,
    replace: bool = False,
    allow_unsigned: bool = False,
) -> str:
    backup = download(
        catalog_of(store),
        reference,
        target,
        [identity],
        NoProgress(),
        replace=replace,
        allow_unsigned=allow_unsigned,
    )
    return backup.id


def test_the_file_is_the_snapshot_and_private(store: MemoryStore, target: Path) -> None:
    old = os.umask(0)
    try:
        backup_id = get(store, target)
    finally:
        os.umask(old)
    assert target.read_bytes() == SNAPSHOT
    assert target.stat().st_mode & 0o777 == 0o600
    assert names(target.parent) == ["snapshot.db"]
    assert backup_id == catalog_of(store).resolve("latest").id


def test_one_by_its_id(store: MemoryStore, target: Path) -> None:
    first = catalog_of(store).list().backups[0].id
    assert get(store, target, reference=first) == first
    assert target.read_bytes() == with_trailer(database(19))


def test_what_is_there_is_not_replaced_unless_asked(store: MemoryStore, target: Path) -> None:
    target.write_text("precious")
    with pytest.raises(Refused, match="exists") as refusal:
        get(store, target)
    assert (refusal.value.exit_code, target.read_text()) == (15, "precious")
    assert "--force" in refusal.value.hint
    get(store, target, replace=True)
    assert target.read_bytes() == SNAPSHOT
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_on_the_way_leaves_everything_as_it_was(
    store: MemoryStore, target: Path, there: bool
) -> None:
    if there:
        target.write_text("precious")
    before = names(target.parent)
    manifest = catalog_of(store).resolve("latest").manifest
    key = catalog_of(store).layout.absolute(manifest.objects[0].key)
    body = b"".join(store.get(key))
    store.put(key, body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(Corruption):
        get(store, target, replace=True)
    store.put(key, body)
    with pytest.raises(WrongKey):
        get(store, target, identity=generate_identity(), replace=True)
    with pytest.raises(StoreUnavailable):
        get(FaultyStore(store, [Rule(Fault.CUT_SHORT, "get", key="snapshot")]), target, replace=True)
    assert names(target.parent) == before
    assert not there or target.read_text() == "precious"


def test_ctrl_c_leaves_nothing(store: MemoryStore, target: Path) -> None:
    class Interrupting(NoProgress):
        def advance(self, count: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(catalog_of(store), "latest", target, [IDENTITY], Interrupting(), replace=False)
    assert names(target.parent) == []


def test_a_full_disk_leaves_nothing(
    store: MemoryStore, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EtcdGuardError, match="No space left") as failure:
        get(store, target)
    assert failure.value.exit_code == 1
    assert "free space" in failure.value.hint
    assert names(target.parent) == []


def test_a_folder_that_is_not_there(store: MemoryStore, target: Path) -> None:
    with pytest.raises(EtcdGuardError, match="cannot write") as failure:
        get(store, target.parent / "no" / "such" / "file")
    assert "directory" in failure.value.hint


def test_a_folder_in_the_files_place(store: MemoryStore, target: Path) -> None:
    target.mkdir()
    with pytest.raises(EtcdGuardError):
        get(store, target, replace=True)
    assert names(target.parent) == ["snapshot.db"]


def test_what_is_not_there_to_download(store: MemoryStore, target: Path) -> None:
    with pytest.raises(UsageError):
        get(store, target, reference="newest")
    with pytest.raises(ObjectNotFound):
        get(MemoryStore("empty"), target)
    assert names(target.parent) == []
