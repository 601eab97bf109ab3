"""Numbers as a person reads them."""

from __future__ import annotations

from datetime import datetime, timezone

__all__ = ["human_bytes", "human_duration", "human_time"]


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
