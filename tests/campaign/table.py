"""The table of a campaign: a row an injected fault, with what came of it; one bad row fails the run."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Row", "print_table"]


@dataclass(frozen=True)
class Row:
    """``outcome`` is None where something was lost, listed wrongly, or said in the wrong way."""

    cells: tuple[str, ...]
    outcome: str | None
    seconds: float | None = None
    """None where it stands for many."""

    @classmethod
    def of(cls, cells: Sequence[str], perform: Callable[[], str]) -> Row:
        """Do it now. What goes wrong is a failed row and on stderr; the others are still to come."""
        began = time.monotonic()
        outcome = None
        try:
            outcome = perform()
        except Exception:  # noqa: BLE001
            print(f"{', '.join(cells)}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return cls(tuple(cells), outcome, time.monotonic() - began)


def print_table(headings: Sequence[str], rows: Iterable[Row]) -> int:
    """Print the rows as they come; the exit code."""
    print(f"| {' | '.join((*headings, 'outcome', 's'))} |\n|{'---|' * (len(headings) + 2)}", flush=True)
    done = failed = 0
    for row in rows:
        done += 1
        failed += row.outcome is None
        took = "-" if row.seconds is None else f"{row.seconds:.0f}"
        cells = (*row.cells, row.outcome or "FAILED", took)
        print(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |", flush=True)
    print(f"\n{done - failed} of {done}: nothing lost, nothing wrong listed, a clear error or success")
    return 1 if failed or not done else 0
