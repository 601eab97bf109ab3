"""Errors of the disk where a process meets them: at its system calls, by a seccomp listener (Linux 5.5).

A program is started under a filter that hands every write and sync to us before the kernel does it. We let
it pass, or answer in its place: EIO, ENOSPC. So children are covered too, whatever they are written in, and
neither a device nor a file system of our own is needed. x86-64 only; no privileges.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

__all__ = ["DiskErrors", "Trouble"]

_WRITES = {1: "write", 18: "pwrite", 20: "writev", 296: "pwritev", 285: "fallocate"}
_SYNCS = {74: "fsync", 75: "fdatasync"}
_CALLS = {**_WRITES, **_SYNCS}
"""Numbers of x86-64."""

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")
_GO_ON = 1
_POLL_MILLISECONDS = 100

# In the process that becomes the program: install the filter, hand the listener over, and go.
_LAUNCHER = f"""\
import array, ctypes, os, socket, struct, sys
calls = {sorted(_CALLS)}
steps = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the number of the call
for number in calls:
    steps += [struct.pack("HBBI", 0x15, 0, 1, number), struct.pack("HBBI", 0x06, 0, 0, 0x7FC00000)]
steps.append(struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000))  # everything else is allowed
code = ctypes.create_string_buffer(b"".join(steps))
program = struct.pack("HxxxxxxQ", len(steps), ctypes.addressof(code))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
listener = libc.syscall(317, 1, 8, program)  # SECCOMP_SET_MODE_FILTER, with a listener
with socket.socket(fileno=int(sys.argv[1])) as there:
    found = listener if listener >= 0 else os.open(os.devnull, os.O_RDONLY)
    word = b"y" if listener >= 0 else b"n"
    there.sendmsg([word], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [found]))])
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Trouble:
    """The ``nth`` call (from 0) fails with ``error``; where it ``stays``, so does every one after it.

    ENOSPC is met by writes alone, anything else by writes and syncs.
    """

    nth: int
    error: int
    stays: bool = False

    def strikes(self, number: int, count: int) -> bool:
        """Whether a call of that number is met, if so many of its kind were before it."""
        if count < self.nth or (count > self.nth and not self.stays):
            return False
        return self.concerns(number)

    def concerns(self, number: int) -> bool:
        """Whether a call of that number counts."""
        return self.error != errno.ENOSPC or number in _WRITES


@dataclass
class DiskErrors:
    """Runs programs whose writes and syncs below ``folder`` meet ``trouble`` (None: are only counted)."""

    folder: Path
    trouble: Trouble | None = None
    calls: list[str] = field(default_factory=list)
    """What was done, in order: ``fsync spool/…``; paths are below ``folder``."""
    met: int = 0
    """How many failed."""

    def run(
        self, argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """To its end. Raises OSError where the kernel, or the machine, is not one for it."""
        if platform.machine() != "x86_64":
            raise OSError(errno.ENOSYS, "the numbers of system calls known here are those of x86-64")
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(theirs.fileno()), *argv],
                    cwd=cwd,
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    pass_fds=[theirs.fileno()],
                )
            with process, _Supervisor(self, _received(ours)):
                try:
                    out, err = process.communicate(timeout=timeout)
                finally:
                    process.kill()
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def judge(self, number: int, pid: int, descriptor: int) -> int:
        """The error that this call gets; 0: none."""
        try:
            target = Path(f"/proc/{pid}/fd/{descriptor}").readlink()
        except OSError:  # it is gone already
            return 0
        if not target.is_relative_to(self.folder):
            return 0
        trouble = self.trouble
        if trouble is not None and not trouble.concerns(number):
            return 0
        count = len(self.calls)
        self.calls.append(f"{_CALLS[number]} {target.relative_to(self.folder)}")
        if trouble is None or not trouble.strikes(number, count):
            return 0
        self.met += 1
        return trouble.error


class _Supervisor:
    """Answers for the kernel until nobody under the filter is left."""

    def __init__(self, errors: DiskErrors, listener: int) -> None:
        self._errors = errors
        self._listener = listener
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="disk-errors")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._listener)  # whoever still waits for an answer gets ENOSYS
        if self._failure is not None and error is None:
            raise self._failure

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        try:
            while not self._stop.is_set():
                for _, event in poll.poll(_POLL_MILLISECONDS):
                    if event & select.POLLIN:
                        self._answer()
                    if event & select.POLLHUP:
                        return
        except BaseException as failure:  # noqa: BLE001 - told by __exit__, which runs in the test's thread
            self._failure = failure

    def _answer(self) -> None:
        told = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, told)
            number, pid, _, call, _, _, descriptor, *_ = _NOTIFICATION.unpack(told)
            verdict = self._errors.judge(call, pid, descriptor & 0xFFFFFFFF)
            answer = _ANSWER.pack(number, 0, -verdict, 0 if verdict else _GO_ON)
            fcntl.ioctl(self._listener, _SEND, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:  # the caller was killed meanwhile
                raise


def _received(ours: socket.socket) -> int:
    size = socket.CMSG_SPACE(array.array("i").itemsize)
    word, ancillary, _, _ = ours.recvmsg(1, size)
    ((_, _, data),) = ancillary
    (descriptor,) = array.array("i", data)
    if word != b"y":
        os.close(descriptor)
        raise OSError(errno.ENOSYS, "the kernel takes no seccomp listener here")
    return int(descriptor)
