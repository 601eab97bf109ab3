"""Numbers as a person reads them, and text that nobody can do harm with on a terminal."""

from __future__ import annotations

import re
from datetime import datetime, timezone

__all__ = ["counted", "human_bytes", "human_duration", "human_time", "without_controls"]

_COLOUR = r"\x1b\[[0-9;]*m"
_CONTROLS = re.compile(rf"({_COLOUR})|[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def counted(number: int, noun: str) -> str:
    """``1 backup``, ``2 backups``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def human_bytes(count: int) -> str:
    """``1536`` as ``1.5 KiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if round(size, 1) < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def human_duration(seconds: float) -> str:
    """``0.42`` as ``420ms``, ``3.21`` as ``3.2s``, ``90061`` as ``1d1h``: the two largest units."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f}ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, length)
        parts.append((number, unit))
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number)


def human_time(moment: datetime) -> str:
    """A moment in UTC to the second, as RFC 3339: ``2026-11-21T02:00:00Z``."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def without_controls(text: str) -> str:
    """The text with ``?`` for what moves a cursor, turns lines around or is no character; colours stay.

    Names, reasons and messages come from stores and servers that may mean harm.
    """
    return _CONTROLS.sub(lambda found: found[1] or "?", text)
