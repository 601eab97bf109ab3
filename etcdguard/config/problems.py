"""What is wrong with a configuration, said in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from etcdguard.config.document import Where, dotted
from etcdguard.config.scalars import Invalid
from etcdguard.config.suggest import keys_at, suggest_key
from etcdguard.errors import ConfigError

__all__ = ["Problem", "config_error", "forbidden_secrets", "problems_of"]

_SHOWN = 4
"""How many problems after the first are spelled out."""

_DOCS = "docs/configuration.md shows every key with an example"

_MISSING: dict[Where, tuple[str, str]] = {
    ("encryption",): (
        "is missing, and backups are not stored in clear by accident",
        "run `etcdguard init` for a key, or write `encryption: {disabled: true}`",
    ),
}

_AWS = "credentials come from the environment, a profile or an instance role, as with the aws command"
_SECRETS: dict[Where, str] = {
    ("cluster", "password"): "use cluster.password_file, or ETCDGUARD_PASSWORD in the environment",
    ("encryption", "passphrase"): "use encryption.passphrase_file",
    ("encryption", "identity"): "use encryption.identity_file",
    ("signing", "key"): "use signing.key_file",
}
_AWS_KEYS = tuple(
    f"{vendor}{key}"
    for key in ("access_key", "access_key_id", "secret_key", "secret_access_key", "session_token")
    for vendor in ("", "aws_")
)


@dataclass(frozen=True)
class Problem:
    """One thing wrong, where, and what to do about it."""

    where: Where
    message: str
    hint: str

    def __str__(self) -> str:
        return f"{dotted(self.where)}: {self.message}" if self.where else self.message


def problems_of(error: ValidationError) -> list[Problem]:
    """Translate pydantic's findings; no message repeats a value that could be secret.

    Unknown keys come first: a mistyped key is why another one is missing.
    """
    findings = error.errors(include_url=False, include_input=False)
    places = [found["loc"] for found in findings]
    told = [found for found in findings if found["type"] != "too_short" or not _below(found["loc"], places)]
    return [_problem(found) for found in sorted(told, key=lambda one: one["type"] != "extra_forbidden")]


def _below(where: Where, places: Sequence[Where]) -> bool:
    """Whether something inside is wrong: pydantic leaves that item out, and then the list is too short."""
    return any(place[: len(where)] == where and place != where for place in places)


def forbidden_secrets(data: dict[str, Any]) -> list[Problem]:
    """Keys that would hold a secret in clear."""
    hints = dict(_SECRETS)
    repositories = data.get("repositories")
    for index in range(len(repositories) if isinstance(repositories, tuple) else 0):
        hints |= {("repositories", index, "s3", key): _AWS for key in _AWS_KEYS}
    if ":" in str(_at(data, ("cluster", "user"))):
        hints["cluster", "user"] = "write the name alone; " + hints["cluster", "password"]
    return [
        Problem(where, "a secret must not stand in the file", hint)
        for where, hint in hints.items()
        if _at(data, where) is not None
    ]


def config_error(problems: Sequence[Problem], place: Callable[[Where], str]) -> ConfigError:
    """The first problem as the error, the others after it in one line. ``place`` says where it stands."""
    first, *others = problems
    message = f"{place(first.where)}: {first}"
    if others:
        listed = "; ".join(str(problem) for problem in others[:_SHOWN])
        unlisted = len(others) - _SHOWN
        message += f" (and {len(others)} more: {listed}{f'; and {unlisted} others' if unlisted > 0 else ''})"
    return ConfigError(message, hint=first.hint)


def _problem(found: Any) -> Problem:
    where: Where = found["loc"]
    kind: str = found["type"]
    context: dict[str, Any] = found.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, Invalid):
        return Problem(where, cause.message, cause.hint)
    if kind == "extra_forbidden":
        return _unknown_key(where)
    if kind == "missing":
        message, hint = _MISSING.get(where, ("is required", _DOCS))
        return Problem(where, message, hint)
    return Problem(where, _wording(kind, context, found["msg"]), _DOCS)


def _unknown_key(where: Where) -> Problem:
    suggestion = suggest_key(where)
    known = ", ".join(keys_at(where[:-1]))
    message = f"unknown key, did you mean {suggestion!r}?" if suggestion else "unknown key"
    return Problem(where, message, f"keys that may stand here: {known}")


def _wording(kind: str, context: dict[str, Any], fallback: str) -> str:
    match kind:
        case "string_type":
            return "must be text (put it in quotes)"
        case "int_type":
            return "must be a whole number"
        case "float_type":
            return "must be a number"
        case "bool_type":
            return "must be true or false"
        case "tuple_type":
            return "must be a list"
        case "model_type" | "dict_type":
            return "must be a mapping of keys"
        case "literal_error":
            return f"must be {context['expected']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "too_short":
            return "must not be empty"
        case _:
            return fallback[:1].lower() + fallback[1:]


def _at(data: Any, where: Where) -> Any:
    for part in where:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data
