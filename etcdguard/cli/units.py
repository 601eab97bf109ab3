"""Durations and sizes on the command line, written as in the configuration."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import click

__all__ = ["duration", "rate", "size"]

_Value = TypeVar("_Value")


def duration(_context: click.Context, _parameter: click.Parameter, text: str | None) -> timedelta | None:
    """Callback of an option: ``30d``, ``1h30m``."""
    from etcdguard.config.scalars import parse_duration  # brings pydantic, which --help has no need of

    return _parsed(parse_duration, text)


def size(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Callback of an option: ``20MiB``, ``1GB``."""
    from etcdguard.config.scalars import parse_size

    return _parsed(parse_size, text)


def rate(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Callback of an option: bytes a second that a snapshot may be read at, ``50MiB``."""
    from etcdguard.config.scalars import parse_size
    from etcdguard.config.schema import parse_snapshot_rate

    return _parsed(lambda size: parse_snapshot_rate(parse_size(size)), text)


def _parsed(parse: Callable[[str], _Value], text: str | None) -> _Value | None:
    from etcdguard.config.scalars import Invalid

    if text is None:
        return None
    try:
        return parse(text)
    except Invalid as error:
        raise click.BadParameter(f"{error}; {error.hint}") from error
