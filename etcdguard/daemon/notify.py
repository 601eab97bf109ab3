"""systemd's notification protocol: datagrams to the socket that NOTIFY_SOCKET names (sd_notify(3))."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping

from etcdguard.log import get_logger

__all__ = ["Notifier"]

_log = get_logger()


class Notifier:
    """Tells systemd what we are doing; without NOTIFY_SOCKET nobody is told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        path = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self.watchdog_seconds = int(environment.get("WATCHDOG_USEC") or 0) / 1e6
        """How long systemd waits for a sign of life; 0: it does not watch."""

    def ready(self, status: str) -> None:
        """Start-up or reload has ended."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """The configuration is being read anew."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as there:
                there.connect(self._address)
                there.send(text.encode())
        except OSError as error:
            _log.warning("daemon.notify_failed", error=str(error))
