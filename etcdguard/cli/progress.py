"""Progress for whoever watches: a bar on a terminal, else a log line now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console

from etcdguard.log import get_logger
from etcdguard.progress import Progress

__all__ = ["BarProgress", "HostBars", "LogProgress", "watch"]

LOG_EVERY = 30.0
"""Seconds between log lines."""


class LogProgress:
    """Logs ``progress`` every 30 s of a phase, nothing for a shorter one. ``clock``: monotonic seconds."""

    def __init__(self, clock: Callable[[], float], every: float = LOG_EVERY) -> None:
        self._clock = clock
        self._every = every
        self._lock = threading.Lock()
        self._log = get_logger()
        self.phase("", None)

    def phase(self, name: str, total_bytes: int | None) -> None:
        """See Progress."""
        with self._lock:
            self._name, self._total, self._count = name, total_bytes, 0
            self._began = self._logged = self._clock()

    def advance(self, count: int) -> None:
        """See Progress."""
        with self._lock:
            self._count += count
            now = self._clock()
            if now - self._logged >= self._every:
                self._logged = now
                self._log.info("progress", **self._facts(now))

    def done(self) -> None:
        """See Progress."""

    def _facts(self, now: float) -> dict[str, str | int]:
        facts: dict[str, str | int] = {"phase": self._name, "bytes": self._count}
        if self._total:
            facts |= {"total_bytes": self._total, "percent": min(100, 100 * self._count // self._total)}
        return facts | {"bytes_per_second": round(self._count / (now - self._began))}


class BarProgress:
    """A bar a phase, the running one alone on screen; it leaves no trace when done."""

    def __init__(self, console: Console) -> None:
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

    def __init__(self, console: Console) -> None:
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


def _bars(console: Console) -> bars.Progress:
    return bars.Progress(
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.DownloadColumn(binary_units=True),
        bars.TransferSpeedColumn(),
        bars.TimeElapsedColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def watch(*, bar: bool, clock: Callable[[], float]) -> Iterator[Progress]:
    """A sink for the time of a command; the terminal is as it was afterwards, whatever happened."""
    progress: Progress = BarProgress(Console(stderr=True)) if bar else LogProgress(clock)
    try:
        yield progress
    finally:
        progress.done()
