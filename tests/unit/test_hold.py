"""Holds, over stores in memory and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdguard.catalog.holds import Hold
from etcdguard.errors import ObjectNotFound, StoreUnavailable, UsageError
from etcdguard.hold import Keeper
from etcdguard.storage.file import FileStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import SIGNER, START, Node, catalog_of
from tests.support.faulty_store import Fault, FaultyStore, Rule
from tests.unit.cli.running import run


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    store = MemoryStore("one")
    Node(tmp_path / "spool").backup(20, store)
    return store


def keeper(store: Any) -> Keeper:
    return Keeper(catalog_of(store), SIGNER)


def test_a_hold_is_seen_by_every_listing_until_it_is_lifted(store: MemoryStore) -> None:
    (backup,) = catalog_of(store).list().backups
    assert keeper(store).add(backup.id, "migration", at=START, actor="cp1")
    assert not keeper(store).add(backup.id, "another reason", at=START, actor="cp2")
    assert keeper(store).list() == [Hold(backup.id, "migration", START.isoformat(), "cp1")]
    assert catalog_of(store).list().backups[0].held

    assert keeper(store).remove(backup.id, "done", at=START, actor="cp2")
    assert not keeper(store).remove(backup.id, "done", at=START, actor="cp2")
    assert keeper(store).list() == []
    assert not catalog_of(store).list().backups[0].held
    told = [(one["change"], one["actor"], one["reason"]) for one in catalog_of(store).trail.events("hold")]
    assert sorted(told) == [("added", "cp1", "migration"), ("removed", "cp2", "done")]


def test_only_backups_that_are_there_can_be_held(store: MemoryStore) -> None:
    with pytest.raises(UsageError, match="not a backup id"):
        keeper(store).add("../../etc", "x", at=START, actor="cp1")
    with pytest.raises(ObjectNotFound):
        keeper(store).add("20261121T020000Z-r00000000000000005033-9f31c2aa", "x", at=START, actor="cp1")
    with pytest.raises(UsageError, match="not a backup id"):
        keeper(store).remove("latest", "x", at=START, actor="cp1")
    assert keeper(store).list() == []


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1]", b'{"format": "etcdguard-hold/9", "reason": 5}', b"\xff"])
def test_what_cannot_be_read_holds_all_the_same(store: MemoryStore, raw: bytes) -> None:
    catalog = catalog_of(store)
    backup_id = catalog.list().backups[0].id
    store.put(catalog.layout.hold(backup_id), raw)
    assert keeper(store).list() == [Hold(backup_id, None, None, None)]
    assert catalog.list().backups[0].held


def test_a_hold_is_not_lifted_unless_the_trail_says_so(store: MemoryStore) -> None:
    backup_id = catalog_of(store).list().backups[0].id
    keeper(store).add(backup_id, "migration", at=START, actor="cp1")
    broken = FaultyStore(store, [Rule(Fault.SERVER_ERROR, "put")])
    with pytest.raises(StoreUnavailable):
        keeper(broken).remove(backup_id, "done", at=START, actor="cp1")
    assert [hold.id for hold in keeper(store).list()] == [backup_id]


def test_the_command_reaches_every_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stores = [FileStore.create(name, tmp_path / name) for name in ("first", "second")]
    (tmp_path / "signing.pem").write_bytes(SIGNER.private_pem())
    (tmp_path / "signing.pem").chmod(0o600)
    backup_id = Node(tmp_path / "spool").backup(20, *stores).backup.id
    settings = {
        "cluster": {"name": "prod"},
        "encryption": {"disabled": True},
        "signing": {"key_file": "signing.pem"},
        "repositories": [{"name": one.name, "file": {"path": one.name}} for one in stores],
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    capsys.readouterr()  # what the backup logged

    def hold(*args: str, code: int = 0) -> Any:
        assert run("--config", config, "hold", *args, "-o", "json") == code
        return json.loads(capsys.readouterr().out)

    added = hold("add", "latest", "--reason", "migration")
    assert added["repositories"] == [{"name": one.name, "outcome": "held"} for one in stores]
    assert added["id"] == backup_id
    assert [one["reason"] for one in hold("list", "--repository", "second")["holds"]] == ["migration"]

    (tmp_path / "first").rename(tmp_path / "gone")
    removed = hold("remove", backup_id, "--reason", "done", code=3)
    assert [one["outcome"] for one in removed["repositories"]] == ["failed", "removed"]
    (tmp_path / "gone").rename(tmp_path / "first")
    removed = hold("remove", backup_id, "--reason", "done")
    assert [one["outcome"] for one in removed["repositories"]] == ["removed", "not held"]
    assert run("--config", config, "hold", "list") == 0
    assert capsys.readouterr().out == "nothing is held\n"
