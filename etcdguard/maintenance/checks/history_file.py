"""Where a daemon keeps what it saw of the cluster: for ``check`` on its host, and itself after a restart."""

from __future__ import annotations

from pathlib import Path

from etcdguard.log import get_logger
from etcdguard.maintenance.checks.history import History, decode, encode
from etcdguard.storage.durable import make_folders, write

__all__ = ["HistoryFile"]

_log = get_logger()

_MOST_BYTES = 8 * 1024 * 1024


class HistoryFile:
    """One private file, replaced as a whole. It is not made durable: a lost sample costs nothing."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "samples.json"

    def read(self) -> History | None:
        """What stands there; None where nothing does, or nothing that we may or can read."""
        try:
            with self.path.open("rb") as file:
                return decode(file.read(_MOST_BYTES))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged, or of another version"
            _log.info("samples.not_read", path=str(self.path), reason=why)
            return None

    def write(self, history: History) -> None:
        """Put that in its place. Raises OSError."""
        make_folders(self.path.parent)
        new = self.path.with_suffix(".new")
        write(new, encode(history))
        new.replace(self.path)
