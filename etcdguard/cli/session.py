"""What the flags and the environment of one invocation say, and what a command does with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from etcdguard.cli.output import Document, Format, emit, render

if TYPE_CHECKING:
    from etcdguard.config import Loaded
    from etcdguard.progress import Progress

__all__ = ["DEFAULT_CONFIG", "Session"]

DEFAULT_CONFIG = Path("/etc/etcdguard/config.yaml")


@dataclass
class Session:
    """Filled by the options while the command line is parsed; a command gets it with ``@click.pass_obj``."""

    env: Mapping[str, str] = field(repr=False)
    config_path: Path = DEFAULT_CONFIG
    debug: bool = False
    log_format: Literal["auto", "console", "json"] = "auto"
    verbosity: int = 0
    output: Format = "table"
    connection: dict[str, str] = field(default_factory=dict)
    """The connection flags that were given, by setting key."""

    def load(self) -> Loaded:
        """The effective configuration. Raises ConfigError."""
        from etcdguard.config import load

        return load(self.config_path, self.env, self.connection)

    def report(self, document: Document, table_renderer: Callable[[Document], str]) -> None:
        """Write the command's one document to stdout in the format asked for."""
        emit(render(document, self.output, table_renderer), self.env)

    def progress(self) -> AbstractContextManager[Progress]:
        """``with session.progress() as progress:`` a bar on a terminal, else a log line every 30 s."""
        from etcdguard.cli.progress import watch

        return watch(bar=sys.stderr.isatty() and self.verbosity >= 0, clock=time.monotonic)

    def start_logging(self) -> None:
        """Set logging up as asked: lines on a terminal, else JSON, unless told."""
        from etcdguard.log import configure

        colors = sys.stderr.isatty() and not self.env.get("NO_COLOR")
        configure(self.chosen_log_format(), verbosity=self.verbosity, colors=colors)

    def chosen_log_format(self) -> Literal["console", "json"]:
        """As asked, else what fits stderr."""
        if self.log_format == "auto":
            return "console" if sys.stderr.isatty() else "json"
        return self.log_format
