"""From file, environment and flags to one effective configuration that knows where each value came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etcdguard.config.document import Document, Where, dotted, read_document
from etcdguard.config.problems import config_error, forbidden_secrets, problems_of
from etcdguard.config.schema import Config, Repository, Section
from etcdguard.config.settings import CONFIG_COPY, Override, check_environment, collect
from etcdguard.errors import ConfigError

__all__ = ["Loaded", "load", "parse", "walk"]


@dataclass(frozen=True)
class Loaded:
    """The effective configuration of the file at ``path``.

    ``origins`` maps every dotted key that holds a value to a flag, a variable, ``<file>:<line>`` or
    ``default``.
    """

    config: Config
    origins: Mapping[str, str]
    path: Path
    text: str = field(repr=False)
    """The file's text."""

    def repositories(self) -> tuple[Repository, ...]:
        """The repositories, for a command that needs at least one. Raises ConfigError if there is none."""
        if not self.config.repositories:
            raise ConfigError(
                f"{self.path}: no repository is configured",
                hint="add one: `repositories: [{name: local, file: {path: /var/lib/etcdguard/repository}}]`",
            )
        return self.config.repositories


def load(path: Path, env: Mapping[str, str], flags: Mapping[str, str]) -> Loaded:
    """The configuration in effect: flag > ETCDGUARD_* > ETCDCTL_* > file > default.

    ``flags`` holds the connection flags that were given, by setting key (``{"command_timeout": "5s"}``).
    Raises ConfigError with every problem of the file on one line.
    """
    check_environment(env)
    copy = env.get(CONFIG_COPY)
    text = _read(path if not copy else Path(f"/proc/self/fd/{copy}"))
    return parse(text, path, collect(env, flags))


def parse(text: str, path: Path, overrides: Mapping[str, Override]) -> Loaded:
    """As ``load``, for the text of a file that stands, or will stand, at ``path``."""
    document = read_document(text, str(path))

    def origin(where: Where) -> str | None:
        given = overrides.get(str(where[1])) if len(where) > 1 and where[0] == "cluster" else None
        if given is not None:
            return given.origin
        return f"{path}:{document.lines[where]}" if where in document.lines else None

    def place(where: Where) -> str:
        return next((found for end in range(len(where), 0, -1) if (found := origin(where[:end]))), str(path))

    problems = forbidden_secrets(document.data)
    if problems:
        raise config_error(problems, place)
    context = {"base": path.absolute().parent}
    try:
        config = Config.model_validate(_merged(document, overrides), context=context)
    except ValidationError as e:
        raise config_error(problems_of(e), place) from e
    origins = {dotted(where): origin(where) or "default" for where, _ in walk(config)}
    return Loaded(config, origins, path, text)


def walk(value: Any, where: Where = ()) -> Iterator[tuple[Where, Any]]:
    """Every value of a configuration and its place; a list of plain values is one value."""
    if isinstance(value, Section):
        for name in type(value).model_fields:
            yield from walk(getattr(value, name), (*where, name))
    elif isinstance(value, tuple) and any(isinstance(item, Section) for item in value):
        for index, item in enumerate(value):
            yield from walk(item, (*where, index))
    else:
        yield where, value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise ConfigError(
            f"{path}: no such configuration file",
            hint="run `etcdguard init` to make one, or name it with --config",
        ) from e
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 text", hint="save the file as UTF-8") from e
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}", hint="--config names the file; it must be readable") from e


def _merged(document: Document, overrides: Mapping[str, Override]) -> dict[str, Any]:
    """The document with the overrides laid over ``cluster``; a password replaces the file's password_file."""
    cluster = document.data.get("cluster")
    if not overrides or not isinstance(cluster, dict):
        return document.data
    kept = {
        key: value for key, value in cluster.items() if key != "password_file" or "password" not in overrides
    }
    given = {override.key: override.value for override in overrides.values()}
    return document.data | {"cluster": kept | given}
