from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from etcdguard.audit.period import Span, parse_span
from etcdguard.errors import UsageError

NOW = datetime(2026, 11, 21, 14, 30, 5, tzinfo=timezone.utc)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (NOW - timedelta(days=30), NOW)),
        ("7d", None, (NOW - timedelta(days=7), NOW)),
        ("1m", None, (at(2026, 10, 21, 14, 30, 5), NOW)),
        ("2026-11-01", "2026-11-20", (at(2026, 11, 1), at(2026, 11, 21))),
        ("2026-11-21", "2026-11-21", (at(2026, 11, 21), NOW)),
        ("2026-11-01T06:00:00Z", "2026-11-01T09:00:00+02:00", (at(2026, 11, 1, 6), at(2026, 11, 1, 7))),
        ("2d", "2026-11-10", (at(2026, 11, 9), at(2026, 11, 11))),
        ("2026-11-01", "2027-01-01", (at(2026, 11, 1), NOW)),
    ],
)
def test_what_is_understood(start: str | None, end: str | None, expected: tuple[datetime, datetime]) -> None:
    assert parse_span(start, end, NOW) == Span(*expected)


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "", "30", "-3d", "0d", "30 d", "1d2w", "٣d", "99999999999999d"),
        *("2026-13-01", "2026-11-32", "2026-11-01T06:00:00", "2026-11", "2026-11-01T25:00:00Z", "20261101"),
    ],
)
def test_what_is_not(text: str) -> None:
    for start, end in ((text, None), (None, text)):
        with pytest.raises(UsageError, match="not a day, a moment or a length") as failure:
            parse_span(start, end, NOW)
        assert failure.value.exit_code == 64
        assert "30d" in failure.value.hint


@pytest.mark.parametrize(
    ("start", "end"), [("2026-11-22", None), ("2026-11-10", "2026-11-09"), ("2026-11-21T14:30:05Z", None)]
)
def test_no_time_at_all(start: str, end: str | None) -> None:
    with pytest.raises(UsageError, match="there is no time between"):
        parse_span(start, end, NOW)


def test_the_end_is_not_in_it() -> None:
    span = Span(NOW, NOW + timedelta(hours=1))
    assert NOW in span
    assert span.end not in span
