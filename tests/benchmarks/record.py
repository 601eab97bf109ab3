"""What a benchmark measured, kept: figures as JSON, and the table in docs/benchmarks.md between its marks.

Everything else in that document is written by hand and stays as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from etcdguard import __version__
from tests.benchmarks.plot import Growth, plot

__all__ = ["machine", "offer", "record", "table"]

_DOCS = Path(__file__).parents[2] / "docs"
_DOCUMENT = _DOCS / "benchmarks.md"
_FIGURES = _DOCS / "benchmarks.json"


def machine() -> str:
    """The machine in a few words: what a reader needs to place the figures."""
    cores, system = len(os.sched_getaffinity(0)), f"{platform.system()} {platform.machine()}"
    return f"{cores} cores, {system}, Python {platform.python_version()}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def offer(parser: argparse.ArgumentParser) -> None:
    """The option that ``record`` obeys."""
    parser.add_argument("--record", action="store_true", help="write the result into docs/benchmarks.md")


def record(
    name: str, figures: Mapping[str, Any], text: str, *, keep: bool, growth: Growth | None = None
) -> None:
    """Print ``text``, and if ``keep`` put it into the document in place of what stood there.

    A plot of ``growth`` follows it where there is more than one size.
    """
    print(text, flush=True)
    if not keep:
        return
    if growth is not None and len(growth.sizes) > 1:
        text = f"{text.strip()}\n\n{plot(name, growth)}"
    known = json.loads(_FIGURES.read_text()) if _FIGURES.exists() else {}
    at = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    known[name] = {"at": at, "version": __version__, "machine": machine(), **figures}
    _FIGURES.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    begin, end = f"<!-- measured: {name} -->\n", f"<!-- end: {name} -->\n"
    before, found, rest = _DOCUMENT.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{_DOCUMENT} has no place for {name}: {begin.strip()} … {end.strip()}")
    stamp = f"Measured {at} with etcdguard {__version__} on {machine()}."
    _DOCUMENT.write_text(f"{before}{begin}\n{text.strip()}\n\n{stamp}\n{end}{after}")
