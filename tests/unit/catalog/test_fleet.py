from __future__ import annotations

import pytest

from etcdguard.catalog.fleet import clusters
from etcdguard.errors import ObjectNotFound, StoreUnavailable
from etcdguard.storage.memory import MemoryStore
from tests.support.faulty_store import Fault, FaultyStore, Rule

BACKUP = "20261121T020000Z-r00000000000000005033-9f31c2aa"
EVENT = "20261121T020000Z-backup-9f31c2aa.json"


def store(*keys: str) -> MemoryStore:
    made = MemoryStore("one")
    for key in keys:
        made.put(key, b"1")
    return made


def test_clusters_are_told_from_what_is_foreign() -> None:
    found = store(
        f"prod/backups/{BACKUP}/manifest.json",
        f"emptied/events/{EVENT}",
        "postgres/backups/base/1",
        "metrics/events/today.json",
        f"-odd/backups/{BACKUP}/manifest.json",
        f"deep/er/backups/{BACKUP}/manifest.json",
        "file",
    )
    assert clusters(found) == ["emptied", "prod"]


def test_none_at_all_is_an_error_and_so_is_half_a_look() -> None:
    with pytest.raises(ObjectNotFound, match="holds no cluster's backups"):
        clusters(store("photos/1.jpg"))
    whole = store(f"prod/backups/{BACKUP}/manifest.json")
    for skip in range(2):
        with pytest.raises(StoreUnavailable):
            clusters(FaultyStore(whole, [Rule(Fault.TIMEOUT, "folders", skip=skip)]))
