"""Jobs as processes of their own: what hangs or crashes there cannot hurt the daemon, nor its memory grow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Protocol

__all__ = ["ChildRunner", "Result", "Runner", "Running"]

_MOST_OUTPUT = 4 * 1024 * 1024


@dataclass(frozen=True)
class Result:
    """How a command ended; ``document`` is what it reported, ``error`` and ``hint`` what it complained of."""

    code: int
    document: Mapping[str, Any] | None = None
    error: str | None = None
    hint: str | None = None


class Running(Protocol):
    """A command that was started."""

    def poll(self) -> Result | None:
        """How it ended; None while it goes on."""

    def terminate(self) -> None:
        """Ask it to end cleanly."""

    def kill(self) -> None:
        """End it."""


class Runner(Protocol):
    """Starts commands."""

    def start(self, argv: Sequence[str]) -> Running:
        """Run etcdguard with these arguments. Raises OSError when that is not possible."""


class ChildRunner:
    """etcdguard as a child process; its log lines go to our stderr as they come."""

    def __init__(
        self, flags: Sequence[str], environment: Mapping[str, str], *, inherited: Sequence[int] = ()
    ) -> None:
        self._flags = tuple(flags)
        self._environment = dict(environment)
        self._inherited = tuple(inherited)

    def start(self, argv: Sequence[str]) -> Running:
        """See Runner."""
        out = tempfile.TemporaryFile()  # noqa: SIM115  (the child's lifetime)
        process = subprocess.Popen(
            self._argv(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env=self._environment,
            pass_fds=self._inherited,
            start_new_session=True,
        )
        return _Child(process, out)

    def _argv(self, argv: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "etcdguard", *argv, "-o", "json", *self._flags]


class _Child:
    def __init__(self, process: subprocess.Popen[bytes], out: IO[bytes]) -> None:
        self._process = process
        self._out = out
        self._said: dict[str, str] = {}
        self._reader = threading.Thread(target=self._forward, name="job-log", daemon=True)
        self._reader.start()

    def poll(self) -> Result | None:
        code = self._process.poll()
        if code is None:
            return None
        # What it said last is read within moments; but a grandchild may have inherited the pipe, and keep it.
        self._reader.join(5.0)
        with self._out as out:
            out.seek(0)
            text = out.read(_MOST_OUTPUT)
        return Result(code, _document(text), self._said.get("error"), self._said.get("hint"))

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _forward(self) -> None:
        assert self._process.stderr is not None  # noqa: S101  (asked for above)
        with self._process.stderr as lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip("\n")
                word, colon, rest = line.partition(": ")
                if colon and word in ("error", "hint"):
                    self._said[word] = rest  # the daemon logs it with the job's outcome
                else:
                    sys.stderr.write(line + "\n")
                    sys.stderr.flush()


def _document(text: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
