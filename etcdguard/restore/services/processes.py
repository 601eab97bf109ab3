"""The processes of this machine, as far as they tell whether a service still runs. Only looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Processes"]


class Processes:
    """What ``/proc`` says. Processes that end while we look are passed over."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def command_lines(self) -> Iterator[tuple[str, ...]]:
        """The command line of every process that has one."""
        for text in self._each("cmdline"):
            if text:
                yield tuple(text.removesuffix("\0").split("\0"))

    def any_in(self, control_group: str) -> bool:
        """Whether a process is in that control group or below, in any hierarchy."""
        # Inside a container the group stands below the container's own.
        return any(
            f"{line}/".find(f"{control_group}/") != -1
            for text in self._each("cgroup")
            for line in text.splitlines()
        )

    def _each(self, file: str) -> Iterator[str]:
        for process in self._proc.glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):
                yield (process / file).read_text(errors="replace")
