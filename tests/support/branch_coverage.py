"""``python -m tests.support.branch_coverage REPORT LEAST``: fail when fewer of all branches were taken.

``coverage report --fail-under`` counts lines and branches together. REPORT is what ``coverage json`` wrote,
LEAST a percentage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(report: str, least: str) -> int:
    """The exit code."""
    totals = json.loads(Path(report).read_text())["totals"]
    percent = 100 * totals["covered_branches"] / totals["num_branches"]
    print(f"{percent:.1f} % of {totals['num_branches']} branches")
    return int(percent < float(least))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
