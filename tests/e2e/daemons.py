"""A daemon as a process: its log as it comes, and what it tells systemd."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.running import Installation

__all__ = ["PATIENCE", "Running"]

PATIENCE = 120.0


class Running:
    """A daemon, its log as it comes, and what it sent to systemd."""

    def __init__(self, here: Installation, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self.process = here.start(
            "daemon", "--log-format=json", NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC="3000000"
        )
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        threading.Thread(target=self._read_socket, daemon=True).start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.events.append(json.loads(line) if line.startswith("{") else {"event": line})

    def _read_socket(self) -> None:
        while data := self._socket.recv(4096):
            self.told += data.decode().splitlines()

    def count(self, event: str, **facts: Any) -> int:
        return sum(one["event"] == event and facts.items() <= one.items() for one in list(self.events))

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.events[-5:]
            assert time.monotonic() < deadline, self.events[-20:]
            time.sleep(0.05)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
