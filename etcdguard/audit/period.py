"""The time a report is about. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from etcdguard.errors import UsageError
from etcdguard.retention import Period

__all__ = ["DEFAULT_LENGTH", "Span", "parse_span"]

DEFAULT_LENGTH = "30d"
_HINT = "write a day (2026-11-01), a moment (2026-11-01T06:00:00Z) or a length back in time (30d, 2w, 1y6m)"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True)
class Span:
    """From ``start`` to before ``end``, aware, in UTC; ``end`` is never later than the report's making."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def parse_span(start: str | None, end: str | None, now: datetime) -> Span:
    """The span of ``--from`` and ``--to``; by default the last 30 days.

    A day as the end is included. What lies in the future is cut off at ``now``. Raises UsageError for what is
    neither a day, a moment nor a length, and for a span that is empty or has not begun.
    """
    until = min(now, now if end is None else _moment(end, now, last=True))
    since = _moment(DEFAULT_LENGTH if start is None else start, until, last=False)
    if since >= until:
        raise UsageError(
            f"there is no time between {since:%Y-%m-%dT%H:%M:%SZ} and {until:%Y-%m-%dT%H:%M:%SZ}",
            hint="--from is before --to and not in the future",
        )
    return Span(since, until)


def _moment(text: str, origin: datetime, *, last: bool) -> datetime:
    """``last``: a day means its end; a length counts back from ``origin``."""
    try:
        if _DAY.fullmatch(text):
            day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=timezone.utc)
            return day + timedelta(days=1) if last else day
        if text[:4].isdigit() and "-" in text:
            return datetime.strptime(re.sub("Z$", "+0000", text), "%Y-%m-%dT%H:%M:%S%z").astimezone(
                timezone.utc
            )
        return Period.parse(text).before(origin)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"not a day, a moment or a length of time: {text!r}", hint=_HINT) from error
