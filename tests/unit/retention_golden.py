"""What the golden files of retention are made of: one long history of backups, and many policies."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, cast

from etcdguard.retention import Candidate, Period, Policy, decide

__all__ = ["GOLDEN", "NOW", "POLICIES", "kept", "series"]

GOLDEN = Path(__file__).parents[1] / "golden" / "retention"
NOW = datetime(2026, 11, 21, 10, 30, tzinfo=timezone.utc)
_OUTAGE = (datetime(2026, 10, 1, tzinfo=timezone.utc), datetime(2026, 10, 15, tzinfo=timezone.utc))
_SLOW = date(2026, 11, 19)

_SINGLE = {
    f"{rule}-{count}": replace(Policy(), **cast("dict[str, Any]", {f"keep_{rule}": count}))
    for rule in ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    for count in (1, 2, 7, 40)
}
_WITHIN = {
    f"within-{text}": Policy(keep_within=Period.parse(text))
    for text in ("1h", "25h", "7d", "2w", "1m", "1y", "2y5m7d3h")
}
_TOGETHER = {
    "no-rule": Policy(),
    "no-rule-3-verified": Policy(min_verified=3),
    "last-1-verified-5": Policy(keep_last=1, min_verified=5),
    "last-1-verified-500": Policy(keep_last=1, min_verified=500),
    "within-1h-last-3": Policy(keep_last=3, keep_within=Period(hours=1)),
    "daily-7-weekly-4": Policy(keep_daily=7, keep_weekly=4),
    "hourly-24-daily-7": Policy(keep_hourly=24, keep_daily=7),
    "daily-14-monthly-12-yearly-3": Policy(keep_daily=14, keep_monthly=12, keep_yearly=3),
    "grandfather-father-son": Policy(keep_daily=7, keep_weekly=4, keep_monthly=12),
    "the-example": Policy(
        keep_last=24,
        keep_hourly=48,
        keep_daily=14,
        keep_weekly=8,
        keep_monthly=12,
        keep_yearly=3,
        keep_within=Period(days=2),
    ),
}
POLICIES = {**_SINGLE, **_WITHIN, **_TOGETHER}


def series() -> list[Candidate]:
    """Three years of one cluster, and the remains of the one before it.

    One a day, four in the last two months, hourly in the last week; none for a fortnight, a clock an hour
    back for a day, one dated in the future, one that cannot be read, two on hold, every ninth verified.
    """
    ended = datetime(2023, 11, 1, tzinfo=timezone.utc)
    moments = [ended - timedelta(days=day) for day in range(9, -1, -1)]
    found = [
        Candidate(f"old-{number}", "aaa", moment, (0, number, number), verified=number == 2)
        for number, moment in enumerate(moments)
    ]
    moment, number = datetime(2023, 11, 21, 0, 10, tzinfo=timezone.utc), 0
    while moment <= NOW:
        if not _OUTAGE[0] <= moment < _OUTAGE[1]:
            written = moment - timedelta(hours=1 if moment.date() == _SLOW else 0)
            found.append(
                Candidate(
                    f"{written:%Y%m%dT%H%MZ}-{number}",
                    "bbb",
                    written,
                    (1, 100 + number, number),
                    verified=number % 9 == 0,
                    held=number in (17, 700),
                )
            )
        number += 1
        age = NOW - moment
        moment += timedelta(hours=1 if age < timedelta(days=7) else 6 if age < timedelta(days=60) else 24)
    found.append(Candidate("future", "bbb", NOW + timedelta(days=3), (1, 50, 50)))
    found.append(Candidate("foreign", "", NOW, (0, 0, 0), unjudged="this version cannot read it"))
    return found


def kept(found: list[Candidate], policy: Policy) -> dict[str, list[str]]:
    """Reasons by id, of what is kept."""
    return {one.id: list(one.reasons) for one in decide(found, policy, NOW) if one.keep}


def main() -> None:
    """Write every golden file anew."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name, policy in POLICIES.items():
        text = json.dumps(kept(series(), policy), indent=0)
        (GOLDEN / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
