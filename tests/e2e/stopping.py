"""A command as a process that stands still where a phase begins, above all ``restore --all``.

``python -m tests.e2e.stopping PHASES ARGUMENT...`` is etcdguard that stops itself, like by SIGSTOP, at the
log line that announces one of ``PHASES`` (separated by commas), or a line for people that has it as a word.
Nothing of that phase has happened then, and all of the one before has: whoever waits for the stop can do what
a fault does, without racing it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from etcdguard.cli.main import main
from tests.e2e.restore_site import Site
from tests.e2e.running import Done

__all__ = ["CHECKOUT", "Orchestrator", "has_stopped", "killed_at", "stopping_at"]

CHECKOUT = Path(__file__).parents[2]
_TIMEOUT = 600.0


def stopping_at(phases: Sequence[str], argv: Sequence[str]) -> list[str]:
    """etcdguard's command line for one that stops at phases; its PYTHONPATH must lead to the checkout."""
    return [sys.executable, "-m", "tests.e2e.stopping", ",".join(phases), *argv[3:]]


def has_stopped(pid: int) -> bool:
    """Wait until a child stands still (true) or has ended (false)."""
    found = os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    assert found is not None
    return found.si_code == os.CLD_STOPPED


class Orchestrator:
    """``etcdguard restore --all``, which stands still at phases of our choice."""

    def __init__(self, site: Site, phases: Sequence[str], arguments: Sequence[str | Path]) -> None:
        here = site.here
        self._site = site
        self._before = site.plans
        argv = stopping_at(phases, here.argv(*arguments))
        self._out, self._err = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        self._process = subprocess.Popen(
            argv,
            cwd=here.folder,
            env=here.environment(**site.path, PYTHONPATH=str(CHECKOUT)),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
        )

    def __enter__(self) -> Orchestrator:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._out.close()
        self._err.close()

    def stands(self) -> bool:
        """Wait until it stands still (true) or has ended (false)."""
        return has_stopped(self._process.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, which takes effect when it goes on; SIGKILL at once."""
        self._process.send_signal(number)

    def go_on(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def ended(self) -> Done:
        """Wait for its end."""
        code = self._process.wait(_TIMEOUT)
        texts = []
        for file in (self._out, self._err):
            file.seek(0)
            texts.append(file.read())
        return Done(code, *texts)

    @property
    def plan(self) -> str | None:
        """The id of the plan, once it is noted; before that nothing is changed."""
        return next(iter(self._site.plans - self._before), None)


def killed_at(site: Site, phase: str) -> str:
    """Begin a restore whose orchestrator is SIGKILLed where that phase begins; answers the plan's id."""
    orchestrator = Orchestrator(site, (phase,), ("restore", "--all", *site.flags, "--i-know-quorum-is-alive"))
    with orchestrator:
        assert orchestrator.stands(), orchestrator.ended().err
    assert orchestrator.plan is not None
    return orchestrator.plan


def _stopping(write: Callable[[str], int], phases: Collection[str]) -> Callable[[str], int]:
    def stops(text: str) -> int:
        written = write(text)
        words = [json.loads(text).get("phase")] if text.startswith("{") else text.split()
        if not set(words).isdisjoint(phases):
            sys.stderr.flush()
            os.kill(os.getpid(), signal.SIGSTOP)
        return written

    return stops


if __name__ == "__main__":
    _, wanted, *arguments = sys.argv
    sys.stderr.write = _stopping(sys.stderr.write, wanted.split(","))  # type: ignore[method-assign]
    sys.argv = ["etcdguard", *arguments]
    # As on a terminal: a shell starts what runs in the background with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
