"""Looks at the cluster every minute, so that checks know what happened between two of them.

Every daemon looks for itself, whoever leads: the next leader's checks shall know as much. It is done in a
thread of this process, because a process a minute would cost more than everything else an idle daemon does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from etcdguard.errors import EtcdGuardError
from etcdguard.log import get_logger
from etcdguard.maintenance.checks.history import History
from etcdguard.maintenance.checks.history_file import HistoryFile

__all__ = ["Looks", "Sampler"]

_log = get_logger()

_EVERY_SECONDS = 60.0


class Looks(Protocol):
    """See ``maintenance.checks.look.Looker``."""

    def remember(self, history: History | None) -> History:
        """``history`` with the cluster as it is now. Raises EtcdGuardError."""


class Sampler:
    """Runs from the beginning until ``close``. A connection is used for as long as it serves."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Looks]],
        file: HistoryFile,
        *,
        every: float = _EVERY_SECONDS,
    ) -> None:
        self._connect = connect
        self._file = file
        self._every = every
        self._told: str | None = None
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="sampler", daemon=True).start()

    def close(self) -> None:
        """Keep nothing more. A look that hangs is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        history = self._file.read()
        while not self._stop.is_set():
            try:
                with self._connect() as cluster:
                    while not self._stop.is_set():
                        history = cluster.remember(history)
                        self._keep(history)
                        self._stop.wait(self._every)
            except EtcdGuardError as error:
                _log.debug("samples.none", error=error.message)  # that etcd is silent is for others to tell
            except Exception as error:  # noqa: BLE001 - a thread that dies would be missed by nobody
                self._tell(f"internal: {type(error).__name__}: {error}")
                _log.exception("samples.failed")
            self._stop.wait(self._every)

    def _keep(self, history: History) -> None:
        if self._stop.is_set():
            return  # another one may write there by now
        try:
            self._file.write(history)
        except OSError as error:
            self._tell(f"{self._file.path}: {error.strerror}")
        else:
            self._told = None

    def _tell(self, why: str) -> None:
        if why != self._told:
            _log.warning("samples.not_kept", reason=why)
        self._told = why
