from __future__ import annotations

from datetime import datetime, timezone

import pytest

from etcdguard.clock import instant


@pytest.mark.parametrize(
    "text", ["2026-11-21T12:00:00Z", "2026-11-21T12:00:00+00:00", "2026-11-21T13:00:00.000000+01:00"]
)
def test_a_moment_however_it_is_written(text: str) -> None:
    assert instant(text) == datetime(2026, 11, 21, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize("text", ["", "Z", "soon", "2026-11-21T25:00:00Z"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|hour must be"):
        instant(text)
