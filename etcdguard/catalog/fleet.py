"""The clusters that keep their backups in one repository."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from etcdguard.catalog.layout import Layout
from etcdguard.catalog.reading import PARALLEL_READS
from etcdguard.errors import ConfigError, ObjectNotFound
from etcdguard.storage.base import RepositoryStore

__all__ = ["clusters"]


def clusters(store: RepositoryStore) -> list[str]:
    """Their names, in order. One that has lost all its backups is still known by its events.

    Folders of somebody else are none, whatever stands in them. Raises ObjectNotFound for no cluster at all.
    """
    names = store.folders("")
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        found = [
            name
            for name, is_one in zip(names, pool.map(lambda n: _is_one(store, n), names), strict=True)
            if is_one
        ]
    if not found:
        raise ObjectNotFound(
            f"repository {store.name} holds no cluster's backups",
            hint="check the repository's bucket and prefix, or its path",
        )
    return found


def _is_one(store: RepositoryStore, name: str) -> bool:
    try:
        layout = Layout(name)
    except ConfigError:
        return False
    if any(layout.backup_of(f"{layout.backups}{one}/") for one in store.folders(layout.backups)):
        return True
    return any(layout.event_kind(info.key) is not None for info in store.list(layout.events))
