"""Bars on a terminal, drawn by rich; loaded only where there is one to draw on."""

from __future__ import annotations

import threading

from rich import progress as bars
from rich.console import Console

__all__ = ["BarProgress", "HostBars"]


class BarProgress:
    """A bar a phase, the running one alone on screen; it leaves no trace when done."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = _bars(console)
        self._lock = threading.Lock()
        self._task: bars.TaskID | None = None

    def phase(self, name: str, total_bytes: int | None) -> None:
        """See Progress."""
        with self._lock:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(name, total=total_bytes)
            self._bar.start()

    def advance(self, count: int) -> None:
        """See Progress."""
        with self._lock:
            if self._task is not None:
                self._bar.advance(self._task, count)

    def done(self) -> None:
        """See Progress."""
        self._bar.stop()


class HostBars:
    """A bar a host, below what is written to stderr; none is left once closed. For one thread at a time."""

    def __init__(self, console: Console | None = None) -> None:
        self._bar = _bars(console)
        self._tasks: dict[str, tuple[str, bars.TaskID]] = {}
        self._bar.start()

    def update(self, host: str, doing: str, count: int, total_bytes: int | None) -> None:
        """Show that the host has done so many bytes of what it is doing."""
        known, task = self._tasks.get(host, ("", None))
        if task is None or known != doing:
            self.remove(host)
            task = self._bar.add_task(f"  {host}: {doing}", total=total_bytes)
            self._tasks[host] = (doing, task)
        self._bar.update(task, completed=count)

    def remove(self, host: str) -> None:
        """The host has ended."""
        if host in self._tasks:
            self._bar.remove_task(self._tasks.pop(host)[1])

    def close(self) -> None:
        """Remove them all."""
        self._bar.stop()


def _bars(console: Console | None) -> bars.Progress:
    return bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeElapsedColumn(),
        console=console or Console(stderr=True),
        transient=True,
    )
