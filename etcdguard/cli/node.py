"""``etcdguard node``: what the orchestrator runs on a host. Requests in, answers out, each a line of JSON."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from etcdguard.cli.lazy import Command
from etcdguard.cli.session import Session
from etcdguard.errors import EtcdGuardError

if TYPE_CHECKING:
    from etcdguard.restore.node import Node

__all__ = ["command"]

_LIMIT = 4 * 1024 * 1024
_PIECE = 64 * 1024
_CAN_BE_CUT_SHORT = ("preflight", "stage")


@click.command(
    "node",
    cls=Command,
    hidden=True,
    epilog="""
    Examples:
      etcdguard node      # run by `etcdguard restore --all` over ssh
    """,
)
@click.pass_obj
def command(session: Session, /) -> None:
    """Carry out steps of a restore on this machine.

    Reads requests from stdin and writes an answer to each to stdout, also to one that failed. When stdin
    ends, nobody waits any more: what can be cut short is.
    """
    from etcdguard import __version__
    from etcdguard.restore.steps import answer_bytes, failure, progress_bytes, read_request

    wire = _Wire()
    served: Node | None = None
    while (line := wire.next()) is not None:
        try:
            request = read_request(line)
            served = served or _node(session)
            with wire.cutting_short(request.step in _CAN_BE_CUT_SHORT):
                answer = served.answer(request, lambda at: _say(progress_bytes(at)))
        except EtcdGuardError as error:
            answer = failure(__version__, error)
        _say(answer_bytes(answer))


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


def _node(session: Session) -> Node:
    from etcdguard.app import App
    from etcdguard.app_node import node

    return node(App(session.load()), session.env.get("PATH", ""))


class _Wire:
    """The lines of stdin. At its end a step that may be cut short is interrupted, like by Ctrl-C."""

    def __init__(self) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._lock = threading.Lock()
        self._short = False
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> bytes | None:
        """The next request; None when there are no more."""
        return self._lines.get()

    @contextmanager
    def cutting_short(self, allowed: bool) -> Iterator[None]:
        """What happens inside may be cut short, if ``allowed``."""
        with self._lock:
            self._short = allowed
        try:
            yield
        finally:
            with self._lock:
                self._short = False

    def _listen(self) -> None:
        # Without Python's buffers, whose locks a thread could hold when the interpreter ends.
        data = b""
        while len(data) < _LIMIT and (piece := os.read(0, _PIECE)):
            *lines, data = (data + piece).split(b"\n")
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)
        with self._lock:
            if self._short:
                os.kill(os.getpid(), signal.SIGINT)
