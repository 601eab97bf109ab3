"""Reading the small files that keys are kept in."""

from __future__ import annotations

from pathlib import Path

from etcdguard.errors import ConfigError, WrongKey

__all__ = ["read_key_file", "read_key_text"]

_MAX_BYTES = 1024 * 1024


def read_key_file(path: Path, what: str) -> bytes:
    """The content of the file; WrongKey if it cannot be read, ConfigError if it is larger than 1 MiB."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as e:
        raise WrongKey(
            f"cannot read the {what} file {path}: {e.strerror}",
            hint="check the path and the file's owner and mode",
        ) from e
    if len(content) > _MAX_BYTES:
        raise ConfigError(
            f"{path} is too large to be a {what} file", hint=f"give the path of the {what} file"
        )
    return content


def read_key_text(path: Path, what: str) -> str:
    """Like `read_key_file`, and ConfigError if the content is not UTF-8 text."""
    try:
        return read_key_file(path, what).decode("utf-8")
    except UnicodeDecodeError:
        # Its exception carries the file's content, so it is not chained.
        raise ConfigError(f"{path} is not a text file", hint=f"give the path of the {what} file") from None
