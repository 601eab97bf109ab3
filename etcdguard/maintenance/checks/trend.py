"""How the database grows, and when it will be full. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from statistics import median

from etcdguard.maintenance.checks.facts import SizePoint

__all__ = ["LEAST_SPAN", "covers_enough", "growth_per_second", "keys_per_second", "span"]

LEAST_SPAN = timedelta(hours=1)
"""A trend over less says more about the hour of the day than about the cluster."""

_MOST_POINTS = 100
_LEAST_POINTS = 3

_Point = tuple[float, float]


def span(points: Sequence[SizePoint]) -> timedelta:
    """The time they cover."""
    return points[-1].at - points[0].at if points else timedelta()


def covers_enough(points: Sequence[SizePoint]) -> bool:
    """Whether there are enough points over a long enough time."""
    return len(points) >= _LEAST_POINTS and span(points) >= LEAST_SPAN


def growth_per_second(points: Sequence[SizePoint]) -> float:
    """The slope of the size, bytes a second; negative when it shrinks.

    The median of the slopes between all pairs (Theil and Sen): one defragmentation in the series, which
    makes the file smaller at a stroke, does not turn the trend.
    """
    return _slope([(point.at.timestamp(), float(point.db_bytes)) for point in points])


def keys_per_second(points: Sequence[SizePoint]) -> float | None:
    """The same of the number of keys; None where they were not counted."""
    known = [(point.at.timestamp(), float(point.keys)) for point in points if point.keys is not None]
    return _slope(known) if len(known) >= _LEAST_POINTS else None


def _slope(points: Sequence[_Point]) -> float:
    some = points[:: max(1, len(points) // _MOST_POINTS)]
    slopes = [
        (late - early) / (then - at)
        for number, (at, early) in enumerate(some)
        for then, late in some[number + 1 :]
        if then > at
    ]
    return median(slopes) if slopes else 0.0
