"""What the keys of the schema are, and which of them a mistyped one was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import get_args

from pydantic import BaseModel

from etcdguard.config.document import Where
from etcdguard.config.schema import Config

__all__ = ["ENVIRONMENT_ONLY", "keys_at", "nearest", "schema_keys", "suggest_key"]

ENVIRONMENT_ONLY = frozenset({"cluster.password"})
"""Keys of the schema that the file may not hold."""


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like ``word``, or None when none is near."""
    matches = difflib.get_close_matches(word, list(candidates), n=1)
    return matches[0] if matches else None


def schema_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[str]:
    """Every key that holds a value, dotted; list items are written ``members[].name``."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        section, many = _section_in(field.annotation)
        if section is not None:
            yield from schema_keys(section, f"{key}[]." if many else f"{key}.")
        elif key not in ENVIRONMENT_ONLY:
            yield key


def keys_at(where: Where) -> tuple[str, ...]:
    """The keys a file may use in the section at that place; empty where there is no section."""
    model: type[BaseModel] | None = Config
    for part in where:
        if model is None or isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        model = None if field is None else _section_in(field.annotation)[0]
    if model is None:
        return ()
    section = "".join(f"{part}." for part in where)
    return tuple(name for name in model.model_fields if section + name not in ENVIRONMENT_ONLY)


def suggest_key(where: Where) -> str | None:
    """What the unknown key there was meant to be: a near sibling, or the same key in its own section."""
    key = str(where[-1])
    return nearest(key, keys_at(where[:-1])) or next(
        (known for known in schema_keys() if known.rpartition(".")[2] == key), None
    )


def _section_in(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    """The section a field holds, through Optional and tuple, and whether it holds a list of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    for argument in get_args(annotation):
        section, many = _section_in(argument)
        if section is not None:
            return section, many or Ellipsis in get_args(annotation)
    return None, False
