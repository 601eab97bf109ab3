from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.config.scalars import Invalid, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400), ("2w", 1209600), ("1h30m", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "5 s", "-5s", "1.5s", "5S", "30m1h", "5s5s", "0s", "٣s", "5s\n"]
)
def test_not_durations(text: str) -> None:
    with pytest.raises(Invalid):
        parse_duration(text)


@given(st.integers(1, 10**13).map(lambda number: timedelta(milliseconds=number)))
def test_durations_round_trip(duration: timedelta) -> None:
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("7B", 7), ("4KiB", 4096), ("16 GiB", 2**34), ("20GB", 2 * 10**10), ("1TiB", 2**40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "GiB", "1.5GiB", "-1", "1gib", "1 PB", "1  GiB", "1GiB\n"])
def test_not_sizes(text: str) -> None:
    with pytest.raises(Invalid):
        parse_size(text)


@given(st.integers(1, 10**14))
def test_sizes_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size
