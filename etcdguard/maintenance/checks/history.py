"""What earlier looks at a cluster saw: the samples of the last quarter of an hour, and sizes of two weeks.

Whoever looks every minute keeps it; it is small enough for a file that is written anew each time. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from statistics import median_low

from pydantic import TypeAdapter

from etcdguard.maintenance.checks.facts import Sample, SizePoint

__all__ = ["History", "decode", "encode"]

_SAMPLES_FOR = timedelta(minutes=16)
_MOST_SAMPLES = 60
_DAY = timedelta(days=1)
_SIZES_FOR = timedelta(days=14)
_DENSE, _SPARSE = 600, 7200
"""Seconds between two sizes that are kept: of the last day, and of the time before."""


@dataclass(frozen=True)
class History:
    """Of one cluster, oldest first."""

    cluster_id: str
    samples: tuple[Sample, ...] = ()
    sizes: tuple[SizePoint, ...] = ()

    def with_sample(self, cluster_id: str, sample: Sample) -> History:
        """With one more; what is too old goes, and all of it when it is of another cluster.

        So does what is later than ``sample``, for the clock was set back.
        """
        earlier = self if self.cluster_id == cluster_id else History(cluster_id)
        samples = [one for one in earlier.samples if timedelta() < sample.at - one.at <= _SAMPLES_FOR]
        sizes = [one for one in earlier.sizes if timedelta() < sample.at - one.at <= _SIZES_FOR]
        return History(
            cluster_id,
            (*samples[-_MOST_SAMPLES + 1 :], sample),
            tuple(_thinned([*sizes, *_size(sample)], sample.at)),
        )

    def before(self, now: datetime) -> tuple[Sample, ...]:
        """The samples that still say something at that moment."""
        return tuple(one for one in self.samples if timedelta() < now - one.at <= _SAMPLES_FOR)


def _size(sample: Sample) -> list[SizePoint]:
    """The largest database, which meets its quota first, and how many keys a member in the middle counts.

    One that was just started may count otherwise than the others.
    """
    if not sample.statuses:
        return []
    counted = [int(one.keys) for one in sample.counters.values() if one.keys is not None]
    largest = max(one.db_size for one in sample.statuses.values())
    return [SizePoint(sample.at, largest, median_low(counted) if counted else None, "keys")]


def _thinned(sizes: Sequence[SizePoint], now: datetime) -> Iterable[SizePoint]:
    """The first of each ten minutes of the last day and of each two hours before."""
    seen = None
    for one in sizes:
        step = _DENSE if now - one.at <= _DAY else _SPARSE
        slot = step, int(one.at.timestamp()) // step
        if slot != seen:
            yield one
        seen = slot


# -- as text -------------------------------------------------------------------------------------------------


@cache
def _adapter() -> TypeAdapter[History]:
    return TypeAdapter(History)


def encode(history: History) -> bytes:
    """As JSON, with ``Infinity`` where a histogram has it."""
    return json.dumps(_adapter().dump_python(history, mode="json"), separators=(",", ":")).encode()


def decode(text: bytes) -> History:
    """Read what ``encode`` wrote. ValueError for anything else."""
    found = _adapter().validate_json(text)
    times = [*(one.at for one in found.samples), *(one.at for one in found.sizes)]
    if any(at.tzinfo is None for at in times):
        raise ValueError("a time without its zone")
    return found
