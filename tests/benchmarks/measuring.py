"""Whole processes, measured: wall, CPU and peak memory, and what a row of such runs says."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["MEGABYTE", "Run", "Spread", "measure"]

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Run:
    """One finished process with the children it waited for. Seconds; ``peak`` in bytes of resident memory.

    ``peak`` is the largest single process's.
    """

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Spread:
    """Median, least and most of some figures."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        """At least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.most:.2f})"


def measure(argv: Sequence[str], environment: Mapping[str, str]) -> Run:
    """Run a command to its end as a whole process; raises RuntimeError when it fails."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(argv, env=dict(environment), stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{argv[0]} failed: {output.read().decode(errors='replace')[-2000:]}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
