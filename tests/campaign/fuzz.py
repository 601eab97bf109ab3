"""``python -m tests.campaign.fuzz [--seconds N] [NAME ...]``: coverage-guided fuzzing of every parser.

Needs atheris, which is no dependency: `pip install atheris` into the environment, or a folder on PYTHONPATH.
Each parser runs in a process of its own, from what ``tests/support/parsers.py`` has as its sample; an input
that crashes it, wants more than the memory, or hangs, is left in the folder that is named.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_MEMORY_MB = 700
"""Of the process, with what it takes before it has read anything: about 300."""
_LONGEST_SECONDS = 10
_DONE = re.compile(r"Done (\d+) runs")
_COVERED = re.compile(r"cov: (\d+)")


def _fuzz_one(name: str, arguments: Sequence[str]) -> None:
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["etcdguard"]):
        parsers = importlib.import_module("tests.support.parsers")
    parser = parsers.PARSERS[name]
    corpus = Path(arguments[-1])
    (corpus / "sample").write_bytes(parser.sample())
    atheris.Setup(["fuzz", *arguments], parser.survives)
    atheris.Fuzz()


def _run(name: str, seconds: int, folder: Path) -> tuple[str, bool]:
    """A row of the table, and whether nothing was found."""
    corpus = folder / re.sub(r"\W+", "-", name)
    corpus.mkdir()
    argv = [sys.executable, "-m", "tests.campaign.fuzz", "--one", name]
    flags = [f"-max_total_time={seconds}", f"-rss_limit_mb={_MEMORY_MB}", f"-timeout={_LONGEST_SECONDS}"]
    done = subprocess.run(
        [*argv, *flags, f"-artifact_prefix={corpus}.", "-print_final_stats=1", str(corpus)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    runs = _DONE.findall(done.stderr)
    covered = _COVERED.findall(done.stderr)
    if done.returncode or not runs:
        return f"| {name} | - | - | FAILED: {done.stderr[-1500:]} |", False
    return f"| {name} | {int(runs[-1]):,} | {covered[-1] if covered else '-'} | nothing |", True


def _main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--one"]:
        _fuzz_one(arguments[1], arguments[2:])
        return 0
    from tests.support.parsers import PARSERS

    parser = argparse.ArgumentParser(description="Coverage-guided fuzzing of every parser.")
    parser.add_argument("--seconds", type=int, default=60, help="for each parser")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARSERS)}")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="etcdguard-fuzz-"))
    print(
        f"what is found stands in {folder}\n\n| parser | inputs | edges | found |\n|---|---|---|---|",
        flush=True,
    )
    sound = True
    with ThreadPoolExecutor(options.workers) as pool:
        names = options.names or list(PARSERS)
        for row, nothing in pool.map(lambda name: _run(name, options.seconds, folder), names):
            print(row, flush=True)
            sound &= nothing
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
