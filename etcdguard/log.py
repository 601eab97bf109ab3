"""Logging: dotted event names with keyword facts, as lines for a person or JSON for a machine, on stderr.

::

    log = get_logger()
    log.info("backup.uploaded", repository="offsite", bytes=73400320)
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

__all__ = ["LogFormat", "REDACTED", "configure", "get_logger", "redact"]

LogFormat = Literal["console", "json"]

REDACTED = "(redacted)"

_SECRET = re.compile(r"password|passwd|secret|passphrase|identity|identities|private_key", re.IGNORECASE)
_NOT_SECRET = re.compile(r"_(file|path|dir|fingerprint)$", re.IGNORECASE)


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """Let imports find that module missing, unless it is loaded already."""
    hidden: dict[str, Any] = sys.modules
    if module in hidden:
        yield
        return
    hidden[module] = None
    try:
        yield
    finally:
        del hidden[module]


# For tracebacks that nobody is shown here, structlog would load rich: a twentieth of a second a command.
with _hidden("rich"):
    import structlog


class _Stderr:
    """Writes to what ``sys.stderr`` is at that moment, so that a progress bar can stand below the lines."""

    def msg(self, message: str) -> None:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = msg


def configure(log_format: LogFormat, *, verbosity: int = 0, colors: bool = False) -> None:
    """Set logging up for the process. ``verbosity``: 0 info, 1 debug, -1 warnings, -2 errors only."""
    steps = [logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG]
    level = steps[max(0, min(verbosity + 2, len(steps) - 1))]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            *_renderers(log_format, colors),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _Stderr(),
        cache_logger_on_first_use=False,
    )


def get_logger() -> FilteringBoundLogger:
    """A logger that follows whatever ``configure`` set last, also when made before it."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank what is named like a secret, at any depth: the last line of defence, not the first."""
    for key in event:
        event[key] = _clean(key, event[key])
    return event


def _clean(key: object, value: Any) -> Any:
    name = str(key)
    if _SECRET.search(name) and not _NOT_SECRET.search(name):
        return REDACTED
    if isinstance(value, Mapping):
        return {inner: _clean(inner, item) for inner, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean("", item) for item in value]
    return value


def _renderers(log_format: LogFormat, colors: bool) -> list[Processor]:
    if log_format == "json":
        return [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(sort_keys=False, default=str, ensure_ascii=False),
        ]
    # The default for exceptions prints local variables, which may be secrets.
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
