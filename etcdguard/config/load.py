"""From file, environment and flags to one effective configuration that knows where each value came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from etcdguard.config.credentials import from_credentials
from etcdguard.config.document import Document, Where, dotted, read_document
from etcdguard.config.problems import config_error, forbidden_secrets, problems_of
from etcdguard.config.schema import Config, Repository, Section
from etcdguard.config.settings import CONFIG_COPY, Override, check_environment, collect
from etcdguard.errors import ConfigError

__all__ = ["Loaded", "load", "parse", "walk"]

_PASSWORD: Where = ("cluster", "password")
_PASSWORD_FILE: Where = ("cluster", "password_file")


@dataclass(frozen=True)
class Loaded:
    """The effective configuration of the file at ``path``.

    ``origins`` maps every dotted key that holds a value to a flag, a variable, a credential,
    ``<file>:<line>`` or ``default``.
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
    """The configuration in effect: flag > ETCDGUARD_* > ETCDCTL_* > credential > file > default.

    ``flags`` holds the connection flags that were given, by setting key (``{"command_timeout": "5s"}``).
    Raises ConfigError with every problem of the file on one line.
    """
    check_environment(env)
    copy = env.get(CONFIG_COPY)
    text = _read(path if not copy else Path(f"/proc/self/fd/{copy}"))
    return parse(text, path, [*from_credentials(env), *collect(env, flags).values()])


def parse(text: str, path: Path, given: Iterable[Override] = ()) -> Loaded:
    """As ``load``, for the text of a file that stands, or will stand, at ``path``; the last override wins."""
    document = read_document(text, str(path))
    overrides = {override.where: override for override in given}
    if _PASSWORD in overrides:
        overrides.pop(_PASSWORD_FILE, None)

    def origin(where: Where) -> str | None:
        if where[:2] in overrides:
            return overrides[where[:2]].origin
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


def _merged(document: Document, overrides: Mapping[Where, Override]) -> dict[str, Any]:
    """The document with the overrides laid over it; a password replaces the file's password_file."""
    data = dict(document.data)
    for (section, key), override in overrides.items():
        values = data.get(str(section), {})
        if isinstance(values, dict):  # else it is refused as it stands
            data[str(section)] = values | {str(key): override.value}
    if _PASSWORD in overrides and isinstance(data["cluster"], dict):
        data["cluster"].pop("password_file", None)
    return data
