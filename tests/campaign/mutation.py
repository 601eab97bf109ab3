"""``python -m tests.campaign.mutation [--again] [PART ...]``: is a line tested, or only executed?

mutmut changes one thing at a time in the parts of the program where a mistake costs a backup, or the cluster
that is being restored, and runs the unit tests that reach it: a mutant that no test notices has survived.
What is changed and which tests run stands in pyproject.toml; the folder ``mutants`` holds the results.

Needs mutmut, which is no dependency: `pip install mutmut==3.8.1` into the environment, or a folder on
PYTHONPATH. Ends in 1 if less than 85 % of a part's mutants are noticed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.support.age_vectors import vectors_directory

_ROOT = Path(__file__).parents[2]
_RESULTS = _ROOT / "mutants"
_LOWEST = 0.85
_MOST_MEMORY = 6 << 30
"""Bytes; a test of passphrases takes one of it."""
_PARTS = {
    "crypto": "etcdguard.crypto.*",
    "catalog": "etcdguard.catalog.*",
    "retention": "etcdguard.retention.*",
    "restore plan": "etcdguard.restore.plan*",
}
# Of the process that ran a mutant's tests; a test that hangs is stopped and has noticed.
_NOTICED = {1: "killed", 3: "killed", 36: "timeout", 24: "timeout", -24: "timeout", 152: "timeout"}


def _outcomes(part: str) -> dict[str, int | None]:
    """The exit code of every mutant of a part; None where it has not been tried."""
    found: dict[str, int | None] = {}
    for path in sorted(_RESULTS.rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    prefix = _PARTS[part].rstrip("*")
    return {name: code for name, code in found.items() if name.startswith(prefix)}


def _survivors(part: str) -> list[str]:
    return [name for name, code in _outcomes(part).items() if code not in _NOTICED]


def _limited() -> None:
    """A mutant that never stops collecting must not take the machine's memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))


def _run(names: Sequence[str], workers: int) -> None:
    argv = [sys.executable, "-m", "mutmut", "run", "--max-children", str(workers), *names]
    environment = {**os.environ, "ETCDGUARD_AGE_VECTORS": str(vectors_directory())}
    done = subprocess.run(
        argv, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, preexec_fn=_limited, check=False
    )
    if done.returncode:
        sys.exit(f"mutmut has failed:\n{done.stdout.decode(errors='replace')[-2000:]}")


def _row(part: str) -> tuple[str, bool]:
    """A row of the table, and whether enough was noticed."""
    outcomes = _outcomes(part)
    counts = Counter(
        _NOTICED.get(code, "survived") if code is not None else "-" for code in outcomes.values()
    )
    noticed = counts["killed"] + counts["timeout"]
    score = noticed / len(outcomes) if outcomes else 0.0
    cells = (len(outcomes), counts["killed"], counts["timeout"], counts["survived"] + counts["-"])
    return f"| {part} | {' | '.join(map(str, cells))} | {score:.1%} |", score >= _LOWEST


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Mutation testing of the parts that must not be wrong.")
    parser.add_argument("--workers", type=int, default=2)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--again", action="store_true", help="try only those that survived the last run")
    which.add_argument("--report", action="store_true", help="only show what the last run has found")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(_PARTS)}")
    options = parser.parse_args(arguments)
    parts = options.parts or list(_PARTS)
    if unknown := set(parts) - set(_PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if options.again:
        if names := [name for part in parts for name in _survivors(part)]:
            _run(names, options.workers)
    elif not options.report:
        shutil.rmtree(_RESULTS, ignore_errors=True)
        _run([_PARTS[part] for part in parts], options.workers)
    rows = [_row(part) for part in parts]
    print("| part | mutants | killed | hung | survived | noticed |\n|---|---|---|---|---|---|")
    print("\n".join(row for row, _ in rows))
    print("\nsurvived; `python -m mutmut show NAME` shows one:")
    print("\n".join(name for part in parts for name in _survivors(part)) or "none")
    return 0 if all(enough for _, enough in rows) else 1


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
