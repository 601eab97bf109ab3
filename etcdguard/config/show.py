"""The effective configuration for a reader: plain data with every secret redacted."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from etcdguard.config.scalars import format_duration, format_size
from etcdguard.config.schema import Config, Section
from etcdguard.retention import Period
from etcdguard.slots import Schedule

__all__ = ["REDACTED", "plain", "redacted"]

REDACTED = "(redacted)"

_SIZES = frozenset({"max_bytes"})


def redacted(config: Config) -> dict[str, Any]:
    """The configuration as it would stand in a file, absent values as None, secrets as ``REDACTED``."""
    return _section(config)


def plain(value: Any, key: str = "") -> Any:
    """One value as YAML would hold it. ``key`` is the last part of its place."""
    if isinstance(value, Section):
        return _section(value)
    if isinstance(value, SecretStr):
        return REDACTED
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Schedule):
        return value.text[0] if len(value.text) == 1 else list(value.text)
    if isinstance(value, (Path, Period)):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if key in _SIZES:
        return format_size(value)
    return value


def _section(section: Section) -> dict[str, Any]:
    return {name: plain(getattr(section, name), name) for name in type(section).model_fields}
