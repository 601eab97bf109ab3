"""Several ways of doing one thing, by turns, at several sizes: one row for each way, etcdguard's last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.measuring import MEGABYTE, Run, Spread
from tests.benchmarks.plot import Growth
from tests.benchmarks.record import record, table

__all__ = ["OURS", "Compared", "report", "sizes"]

OURS = "etcdguard"

_HEAD = ("database", "way", "seconds", "CPU seconds", "peak memory", "etcdguard beside it")


@dataclass(frozen=True)
class Compared:
    """What was measured with a database of that many bytes: as many runs of each way."""

    db_bytes: int
    runs: Mapping[str, Sequence[Run]]

    def figures(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "db_bytes": self.db_bytes,
            "ways": {
                way: {
                    "wall": Spread.of([run.wall for run in runs]).__dict__,
                    "cpu": Spread.of([run.cpu for run in runs]).__dict__,
                    "peak_bytes": max(run.peak for run in runs),
                    "etcdguard_beside": self._ours_beside(way).__dict__,
                }
                for way, runs in self.runs.items()
            },
        }

    def rows(self) -> list[list[str]]:
        """For the table."""
        return [
            [
                f"{self.db_bytes / MEGABYTE:.0f} MB",
                way,
                str(Spread.of([run.wall for run in runs])),
                f"{Spread.of([run.cpu for run in runs]).median:.2f}",
                f"{max(run.peak for run in runs) / MEGABYTE:.0f} MB",
                "" if way == OURS else str(self._ours_beside(way)),
            ]
            for way, runs in self.runs.items()
        ]

    def _ours_beside(self, way: str) -> Spread:
        """How many times that way's time ours took, turn by turn."""
        pairs = zip(self.runs[OURS], self.runs[way], strict=True)
        return Spread.of([ours.wall / other.wall for ours, other in pairs])


def report(
    name: str,
    found: Sequence[Compared],
    *,
    keep: bool,
    facts: Mapping[str, Any] | None = None,
    note: str = "",
) -> None:
    """Print the table and ``note``; if ``keep`` put both and a plot of the seconds into the document."""
    text = f"{table(_HEAD, [row for one in found for row in one.rows()])}\n\n{note}"
    growth = Growth(
        "database, MB",
        [one.db_bytes / MEGABYTE for one in found],
        {
            way: [Spread.of([run.wall for run in one.runs[way]]).median for one in found]
            for way in found[0].runs
        },
    )
    figures = {**(facts or {}), "sizes": [one.figures() for one in found]}
    record(name, figures, text.strip(), keep=keep, growth=growth)


def sizes(text: str) -> list[int]:
    """An option's value: megabytes, separated by commas."""
    return [int(one) for one in text.split(",")]
