"""Whole processes, measured: wall, CPU and peak memory, and what a row of such runs says."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MEGABYTE", "Run", "Spread", "cpu_of_children", "measure"]

MEGABYTE = 1_000_000

# A child's peak is at least what the process that started it had: this one is small.
_LAUNCHER = """
import os, sys, time
began = time.monotonic()
pid = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
told = (time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
os.write(int(sys.argv[1]), " ".join(map(str, told)).encode())
sys.exit(status != 0)
"""


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


def measure(argv: Sequence[str], environment: Mapping[str, str], *, folder: Path | None = None) -> Run:
    """Run a command to its end as a whole process, in ``folder``; raises RuntimeError when it fails."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile("w+") as told:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(told.fileno())]
        done = subprocess.run(
            [*launcher, *argv],
            env=dict(environment),
            cwd=folder,
            stdout=output,
            stderr=output,
            pass_fds=[told.fileno()],
            check=False,
        )
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{argv[0]} failed: {output.read().decode(errors='replace')[-2000:]}")
        told.seek(0)
        wall, cpu, peak = told.read().split()
    return Run(float(wall), float(cpu), int(peak))


def cpu_of_children() -> float:
    """Seconds of processors that all ended children of this process have taken."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
