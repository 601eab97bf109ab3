"""``checks.thresholds``: limits by the name of the check, each level a number or, for times, a duration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast, get_args

from etcdguard.config.scalars import Invalid, format_duration, format_size, parse_duration, parse_size
from etcdguard.maintenance.checks.thresholds import LIMITS, Level, Limits, Senseless, Unit

__all__ = ["read_limits"]

_LEVELS = get_args(Level)
_WRITTEN: Mapping[Unit, str] = {"seconds": "a duration like 100ms or 7d", "bytes": "a size like 512KiB"}


def read_limits(thresholds: Mapping[str, Any]) -> dict[str, Limits]:
    """The limits that differ from the defaults. Raises Invalid, which names the check."""
    return {name: _limits(name, levels) for name, levels in thresholds.items()}


def _limits(name: str, levels: Any) -> Limits:
    default = LIMITS.get(name)
    if default is None:
        near = difflib.get_close_matches(name, LIMITS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(LIMITS)}"
        raise Invalid(f"thresholds.{name}: no check with a threshold has this name", hint)
    if not isinstance(levels, dict) or not levels or not set(levels) <= set(_LEVELS):
        raise Invalid(
            f"thresholds.{name}: must hold warn, fail or both", f"the default is {_written(name, default)}"
        )
    try:
        return default.but(
            {cast(Level, level): _value(name, value, default) for level, value in levels.items()}
        )
    except Senseless as e:
        raise Invalid(f"thresholds.{name}: {e.message}", e.hint) from e


def _value(name: str, value: Any, default: Limits) -> float | None:
    if value is None:
        return None
    if default.unit == "seconds":
        if isinstance(value, str):
            return parse_duration(value).total_seconds()
    elif default.unit == "bytes":
        if isinstance(value, (int, str)) and not isinstance(value, bool):
            return float(parse_size(str(value)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    what = _WRITTEN.get(default.unit, "a number")
    raise Invalid(f"thresholds.{name}: must be {what}", f"the default is {_written(name, default)}")


def _written(name: str, default: Limits) -> str:
    levels = (("warn", default.warn), ("fail", default.fail))
    values = ", ".join(f"{level}: {_text(default, at)}" for level, at in levels if at is not None)
    return f"{name}: {{{values}}}"


def _text(default: Limits, at: float) -> str:
    if default.unit == "seconds":
        return format_duration(timedelta(seconds=at))
    return format_size(round(at)) if default.unit == "bytes" else f"{at:g}"
