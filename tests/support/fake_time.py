"""Processes whose wall clock can be set, by libfaketime; what measures durations goes on as ever.

As with a real clock that is set: CLOCK_REALTIME jumps, CLOCK_MONOTONIC and CLOCK_BOOTTIME do not. Files keep
the kernel's times, and programs without a C library (etcd's) the true clock.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tests.support.commands import command_path

__all__ = ["SettableClock"]


# Its clock_nanosleep, told to leave the monotonic clock alone, refuses every sleep since Python 3.11.
_SLEEP = """\
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


class SettableClock:
    """The clock of every process that is started with ``variables``, and of their children."""

    def __init__(self, folder: Path) -> None:
        program = command_path("faketime")
        (library,) = Path(program).resolve().parents[1].glob("lib/*/faketime/libfaketimeMT.so.1")
        self._file = folder / "faketime"
        code = folder / "fake-time"
        code.mkdir()
        (code / "sitecustomize.py").write_text(_SLEEP)
        self.variables = {
            "LD_PRELOAD": str(library),
            "PYTHONPATH": str(code),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "FAKETIME_DISABLE_SHM": "1",  # a killed process would leave its own behind
        }
        self.set(timedelta())

    def set(self, ahead: timedelta) -> None:
        """So far ahead of the true time from now on; negative: behind."""
        scratch = self._file.with_suffix(".new")
        scratch.write_text(f"{ahead.total_seconds():+.0f}\n")
        scratch.replace(self._file)  # it is read at every look at the clock
