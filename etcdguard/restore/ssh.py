"""A host over the system's OpenSSH client, so that ~/.ssh/config, agents and jump hosts work as everywhere.

The request goes through the pipe, and the pipe stays open as long as we live: when it ends, the host knows
that nobody waits any more. How host keys are checked is left to the user's ssh configuration.
"""

from __future__ import annotations

import queue
import shlex
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from etcdguard.errors import EtcdGuardError, Refused, UsageError
from etcdguard.restore.steps import StepAnswer, StepRequest, read_answer, read_progress, request_bytes
from etcdguard.restore.telling import Tell

__all__ = ["SshHost", "SshOptions"]

_LIMIT = 1024 * 1024
_TAIL = 64 * 1024
_GOODBYE = 10.0
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=3")
_NOT_FOUND = 127
_SSH_FAILED = 255


@dataclass(frozen=True)
class SshOptions:
    """How hosts are reached. ``command`` is a shell command line there; ``config`` an ssh_config here."""

    config: Path | None = None
    command: str = "etcdguard"
    remote_config: str | None = None
    """The configuration file that etcdguard is to use on the hosts."""
    program: str = "ssh"

    def argv(self, destination: str) -> tuple[str, ...]:
        """The command line for a host; nothing in it is secret."""
        remote = f"{self.command} node"
        if self.remote_config is not None:
            remote += f" --config {shlex.quote(self.remote_config)}"
        file = () if self.config is None else ("-F", str(self.config))
        options = (word for option in _OPTIONS for word in ("-o", option))
        return (self.program, *file, "-T", *options, "--", destination, remote)


class SshHost:
    """See ``hosts.Host``. One connection serves all steps; after a loss the next step makes a new one."""

    def __init__(self, name: str, destination: str, options: SshOptions) -> None:
        self.name = name
        self._destination = destination
        self._argv = options.argv(destination)
        self._session: _Session | None = None

    def run(self, request: StepRequest, timeout: float, tell: Tell | None = None) -> StepAnswer:
        """See Host."""
        data, deadline_message = request_bytes(request), f"no end of {request.step} within {timeout:g} s"
        again = self._session is not None
        try:
            session, line = self._asked(data, timeout, deadline_message, tell)
            if line is None and again and not session.hung_up:
                # The connection of an earlier step is gone; a step may be sent twice.
                session, line = self._asked(data, timeout, deadline_message, tell)
        except BaseException:
            self._drop(kill=True)
            raise
        if line is None:
            raise self._ended()
        return self._read(line)

    def interrupt(self) -> None:
        """See Host: the end of its input tells the other side."""
        session = self._session
        if session is not None:
            session.hang_up()

    def close(self) -> None:
        """See Host."""
        self._drop(kill=False)

    def _asked(
        self, data: bytes, timeout: float, complaint: str, tell: Tell | None
    ) -> tuple[_Session, bytes | None]:
        """The connection and its answer's line; None when it has ended instead."""
        if self._session is None or self._session.over:
            self._drop(kill=True)
            self._session = _Session(self._argv)
        session = self._session
        session.send(data)
        try:
            return session, session.answer(timeout, tell)
        except queue.Empty as e:
            raise EtcdGuardError(
                f"{self.name}: {complaint}",
                hint=f"look at that host; `ssh {self._destination}` shows whether it answers",
            ) from e

    def _ended(self) -> EtcdGuardError:
        session, self._session = self._session, None
        code, complaints, noise = (0, "", b"") if session is None else session.end(kill=False)
        if code != 0:
            return self._failed(code, complaints)
        try:
            self._read(noise)
        except Refused as error:
            return error
        return EtcdGuardError(f"{self.name}: the connection ended", hint="run the same command again")

    def _drop(self, *, kill: bool) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end(kill=kill)

    def _read(self, line: bytes) -> StepAnswer:
        try:
            return read_answer(line)
        except Refused as e:
            raise Refused(f"{self.name}: {e.message}", hint=e.hint) from e

    def _failed(self, code: int, complaints: str) -> EtcdGuardError:
        reason = _reason(complaints)
        if code == _NOT_FOUND:
            return Refused(
                f"{self.name}: etcdguard was not found there",
                hint="install it on every host, or name its full path with --remote-command",
            )
        if code != _SSH_FAILED:
            return EtcdGuardError(
                f"{self.name}: etcdguard ended with code {code}: {reason}",
                hint=f"try `ssh {self._destination} etcdguard --version`",
            )
        if "IDENTIFICATION HAS CHANGED" in complaints:
            return Refused(
                f"{self.name}: its ssh host key has changed",
                hint=f"if the machine was rebuilt, `ssh-keygen -R {self._destination}` and log in once; "
                "otherwise find out who answers in its place",
            )
        if "Host key verification failed" in complaints or "host key is known" in complaints:
            return Refused(
                f"{self.name}: its ssh host key is not known here",
                hint=f"log in once by hand, `ssh {self._destination}`, and compare the fingerprint",
            )
        if "Permission denied" in complaints:
            return Refused(
                f"{self.name}: ssh does not let us in: {reason}",
                hint=f"`ssh {self._destination} true` must work without a question: "
                "load the key into an agent, or name it in ~/.ssh/config",
            )
        return EtcdGuardError(
            f"{self.name}: cannot be reached, or the connection was lost: {reason}",
            hint=f"`ssh {self._destination} true` must work; --ssh-config names another configuration",
        )


class _Session:
    """One ssh process with a ``node`` at its other end. Raises UsageError where there is no ssh."""

    def __init__(self, argv: Sequence[str]) -> None:
        try:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # A Ctrl-C is for us: the step ends as we decide, not as the terminal does.
                start_new_session=True,
            )
        except OSError as e:
            raise UsageError(f"cannot run {argv[0]}: {e.strerror}", hint="install the OpenSSH client") from e
        self.over = False
        self.hung_up = False
        """We have ended it, so that no answer is no reason to ask again."""
        self._noise = b""
        self._complaints = b""
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._threads = [threading.Thread(target=one, daemon=True) for one in (self._listen, self._drain)]
        for thread in self._threads:
            thread.start()

    def send(self, data: bytes) -> None:
        """Send a request; an other side that is gone shows in ``answer``."""
        try:
            _pipe(self._process.stdin).write(data)
            _pipe(self._process.stdin).flush()
        except (BrokenPipeError, ValueError):  # ssh has given up, or we have hung up
            self.over = True

    def answer(self, timeout: float, tell: Tell | None) -> bytes | None:
        """The next answer's line; None when there will be none. Raises queue.Empty, and Refused."""
        while True:
            line = self._lines.get(timeout=timeout)
            progress = None if line is None else read_progress(line)
            if progress is None:
                return line
            if tell is not None:
                tell(progress)

    def hang_up(self) -> None:
        """End the other side's input."""
        self.over = self.hung_up = True
        with suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()

    def end(self, *, kill: bool) -> tuple[int, str, bytes]:
        """End it: its exit code, what it complained of, and what it said that was no answer."""
        self.hang_up()
        if kill:
            self._process.kill()
        try:
            code = self._process.wait(_GOODBYE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for thread in self._threads:
            thread.join(_GOODBYE)
        return code, self._complaints.decode(errors="replace"), self._noise

    def _listen(self) -> None:
        with _pipe(self._process.stdout) as pipe:
            for line in iter(lambda: pipe.readline(_LIMIT), b""):
                # A shell profile may print something first.
                if line.startswith(b"{"):
                    self._lines.put(line)
                else:
                    self._noise = line
        self.over = True
        self._lines.put(None)

    def _drain(self) -> None:
        with _pipe(self._process.stderr) as pipe:
            for line in iter(lambda: pipe.readline(_LIMIT), b""):
                self._complaints = (self._complaints + line)[-_TAIL:]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("every pipe was asked for")
    return pipe


def _reason(complaints: str) -> str:
    """The line that says most: etcdguard's own error, else the last that is not a log line."""
    lines = [line.strip() for line in complaints.splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith("{")]
    errors = [line.removeprefix("error: ") for line in plain if line.startswith("error: ")]
    return (errors or plain or lines or ["it said nothing"])[-1][-300:]
