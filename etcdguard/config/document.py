"""YAML text to plain data that remembers its lines. Aliases, tags and repeated keys are refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from etcdguard.errors import ConfigError

__all__ = ["Document", "Where", "dotted", "read_document"]

_DEEPEST = 20
"""Levels of YAML; a configuration has six."""

Where = tuple[str | int, ...]
"""The place of a value: keys and list indexes from the root."""


@dataclass(frozen=True)
class Document:
    """Data as read (lists are tuples), and the line, counted from 1, on which each value is given."""

    data: dict[str, Any]
    lines: Mapping[Where, int]


def dotted(where: Where) -> str:
    """``("members", 0, "name")`` as ``members[0].name``."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def read_document(text: str, source: str) -> Document:
    """Parse one YAML document; an empty one is an empty mapping. Raises ConfigError with the line."""
    try:
        _refuse_indirection(text, source)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines = dict(_lines(node, (), source)) if node is not None else {}
        data = loader.construct_document(node) if node is not None else {}
    except yaml.YAMLError as e:
        raise _error(_place(source, e), f"not valid YAML: {_reason(e)}") from e
    except (ValueError, OverflowError, RecursionError) as e:
        raise _error(source, "not valid YAML: a value cannot be read") from e
    if not isinstance(data, dict):
        raise _error(source, "must be a mapping of sections")
    return Document(_frozen(data), lines)


def _refuse_indirection(text: str, source: str) -> None:
    """Aliases and tags make one text mean another, and an alias can grow a small file without bound.

    So can depth: the parser takes time by its square.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise _error(f"{source}:{line}", f"nested deeper than {_DEEPEST} levels")
        alias = isinstance(event, yaml.AliasEvent)
        if alias or getattr(event, "tag", None) is not None:
            what = "aliases (*name)" if alias else "tags (!name)"
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise _error(f"{source}:{line}", f"YAML {what} are not used here")


def _error(place: str, message: str) -> ConfigError:
    return ConfigError(
        f"{place}: {message}", hint="docs/configuration.md shows every section with an example"
    )


def _place(source: str, error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return source if mark is None else f"{source}:{mark.line + 1}"


def _reason(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read")


def _lines(node: yaml.Node, where: Where, source: str) -> Iterator[tuple[Where, int]]:
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*where, index), item.start_mark.line + 1
            yield from _lines(item, (*where, index), source)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise _error(f"{source}:{line}", "a key must be plain text")
            if key.value in seen:
                place = dotted((*where, key.value))
                raise _error(f"{source}:{line}", f"{place}: given twice, first on line {seen[key.value]}")
            seen[key.value] = line
            yield (*where, key.value), line
            yield from _lines(value, (*where, key.value), source)


def _frozen(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value
