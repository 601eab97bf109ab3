"""What every kind of service has in common: the seam, waiting, and running other programs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from etcdguard.errors import EtcdGuardError

__all__ = ["CommandResult", "CommandRunner", "Patience", "Service", "run_command"]

_POLL = 0.2
_ENVIRONMENT = {
    "LC_ALL": "C",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


class Service(Protocol):
    """Something that runs etcd, or uses it, on this machine.

    All methods may be repeated, also by another process after a crash. They raise Refused for a service that
    is not as configured, and EtcdGuardError for one that does not obey.
    """

    @property
    def name(self) -> str:
        """What an operator knows it by: the unit, or the manifest's path."""

    def check(self) -> None:
        """Raise Refused if ``stop`` and ``start`` could not work. Changes nothing."""

    def is_running(self) -> bool:
        """Whether it has a process, or is about to start one by itself."""

    def stop(self) -> None:
        """Keep it down from now on, across reboots too, and return when no process is left.

        To be called also for a service that does not run: only then can nothing else start it.
        """

    def release(self) -> None:
        """Let it be started again, by anyone: what ``stop`` did is undone, apart from what it stopped."""

    def start(self) -> None:
        """Release it, start it, and return when it has been started. Does not wait until it works."""


@dataclass(frozen=True)
class CommandResult:
    """How a program ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class CommandRunner(Protocol):
    """Runs other programs."""

    def __call__(self, argv: Sequence[str], timeout: float) -> CommandResult:
        """Run one to its end within ``timeout`` seconds; raises EtcdGuardError when that is impossible."""


def run_command(argv: Sequence[str], timeout: float) -> CommandResult:
    """Run a program of this machine, with English messages."""
    try:
        done = subprocess.run(
            argv,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except OSError as e:
        raise EtcdGuardError(
            f"cannot run {argv[0]}: {e.strerror}", hint="install it, or configure another kind of service"
        ) from e
    except subprocess.TimeoutExpired as e:
        raise EtcdGuardError(
            f"{' '.join(argv)} did not end within {timeout:g} s",
            hint="run it by hand to see what it waits for",
        ) from e
    return CommandResult(done.returncode, _text(done.stdout), _text(done.stderr))


def _text(output: bytes) -> str:
    return output.decode(errors="replace").strip()


@dataclass(frozen=True)
class Patience:
    """How many ``seconds`` to wait for a service, and by which clock."""

    seconds: float
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]

    def until(self, condition: Callable[[], bool]) -> bool:
        """Whether the condition came true in time."""
        deadline = self.monotonic() + self.seconds
        while not condition():
            if self.monotonic() >= deadline:
                return False
            self.sleep(_POLL)
        return True
