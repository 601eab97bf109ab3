"""What ``app`` builds for looks at the cluster, and no more: a daemon looks for as long as it lives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from etcdguard.app import App
from etcdguard.maintenance.checks.history_file import HistoryFile
from etcdguard.maintenance.checks.look import Looker

__all__ = ["history_file", "looker"]


@contextmanager
def looker(app: App) -> Iterator[Looker]:
    """What looks at the configured cluster."""
    with app.etcd() as client:
        yield Looker(client, app.scraper(), app.connection(), app.clock.now, quota=app.config.defrag.quota)


def history_file(app: App) -> HistoryFile:
    """What this node's daemon remembers of the cluster."""
    return HistoryFile(app.config.daemon.state_dir)
