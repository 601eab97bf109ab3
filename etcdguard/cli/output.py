"""What a command reports: one document on stdout, as a table for a person, as JSON or YAML for a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click

from etcdguard.errors import EtcdGuardError
from etcdguard.human import human_bytes, human_duration, human_time, without_controls

__all__ = [
    "Document",
    "Format",
    "SCHEMA_VERSION",
    "emit",
    "human_bytes",
    "human_duration",
    "human_time",
    "render",
    "table",
]

SCHEMA_VERSION = 1
"""Raised when a field that scripts rely on changes its meaning or goes away."""

Format = Literal["table", "json", "yaml"]

Document = Mapping[str, Any]


def render(document: Document, output: Format, table_renderer: Callable[[Document], str]) -> str:
    """The text of the document, in JSON and YAML with ``schema_version`` put in front.

    A document holds plain data, datetimes (written as RFC 3339 UTC) and paths.
    """
    if output == "table":
        return table_renderer(document)
    versioned = {"schema_version": SCHEMA_VERSION, **document}
    text = json.dumps(versioned, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    if output == "json":
        return text
    import yaml

    return yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True).rstrip("\n")


def emit(text: str, env: Mapping[str, str]) -> None:
    """Write a command's data to stdout; colours only on a terminal and without NO_COLOR.

    Raises EtcdGuardError where it cannot be written, and BrokenPipeError when nobody reads it.
    """
    try:
        click.echo(without_controls(text), color=False if env.get("NO_COLOR") else None)
    except BrokenPipeError:
        raise
    except OSError as e:
        raise EtcdGuardError(
            f"cannot write the report to stdout: {e.strerror}",
            hint="the command's work is done all the same; mend where stdout goes before the next run",
        ) from e


def table(headers: Sequence[str] | None, rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, two spaces apart. Cells may be styled with ``click.style``."""
    lines = [*([headers] if headers else []), *rows]
    if not lines:
        return ""
    widths = [max(len(click.unstyle(cell)) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return human_time(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"not for a document: {type(value).__name__}")
