"""Runs etcdguard in this process and notes its own peak of resident memory when it ends.

``python -m tests.benchmarks.peak FOLDER ARGUMENT...`` writes the bytes to a new file in FOLDER. From inside,
because what a parent learns about an ended child includes the child's children: here etcdutl, which maps the
whole database.
"""

from __future__ import annotations

import atexit
import os
import resource
import runpy
import sys
import uuid
from pathlib import Path

__all__ = ["peaks"]


def peaks(folder: Path, name: str) -> list[int]:
    """What the runs of ``etcdguard NAME ...`` have noted, in bytes."""
    return [int(path.read_text()) for path in folder.glob(f"{name}-*")]


def main() -> None:
    """Be etcdguard."""
    folder = Path(sys.argv.pop(1))
    atexit.register(_note, folder / f"{sys.argv[1]}-{os.uname().nodename}-{uuid.uuid4().hex}")
    runpy.run_module("etcdguard", run_name="__main__", alter_sys=True)


def _note(file: Path) -> None:
    file.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


if __name__ == "__main__":
    main()
