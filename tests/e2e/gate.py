"""A gate in front of a cluster that stops a snapshot half-way, so that a test can act in its middle."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from etcdguard.etcd.local import LocalCluster
from tests.support.waiting import PLENTY

__all__ = ["Gate", "gate"]

_PIECE = 64 * 1024
_TRICKLE_SECONDS = 5.0


class Gate:
    """Forwards TCP; what a member sends beyond ``limit`` bytes only trickles until the gate is opened.

    Where nothing came at all, gRPC would miss the answers to its pings and hang up after 16 s, and etcdguard
    would call the snapshot stalled after 30.
    """

    def __init__(self, limit: int) -> None:
        self.endpoints: dict[str, str] = {}
        """Member name to its URL at the gate."""
        self._limit = limit
        self._holding = threading.Event()
        self._opened = threading.Event()
        self._member: str | None = None

    def wait_until_holding(self) -> str:
        """The name of the member whose snapshot is held."""
        assert self._holding.wait(PLENTY), "no snapshot came by"
        assert self._member is not None
        return self._member

    def open(self) -> None:
        """Let everything pass from now on."""
        self._opened.set()

    def serve(self, name: str, listener: socket.socket, upstream: tuple[str, int]) -> None:
        """Accept for one member until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(upstream, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for source, sink, member in ((client, server, None), (server, client, name)):
                threading.Thread(target=self._pump, args=(source, sink, member), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, member: str | None) -> None:
        passed = 0
        with suppress(OSError):  # either side hung up: so does the gate
            while piece := source.recv(_PIECE):
                passed += len(piece)
                if member is not None and passed > self._limit and not self._opened.is_set():
                    self._member = member
                    self._holding.set()
                    self._opened.wait(_TRICKLE_SECONDS)
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def gate(cluster: LocalCluster, *, limit: int = 4_000_000) -> Iterator[Gate]:
    """A gate with one port for each member of a cluster without TLS."""
    found = Gate(limit)
    listeners = []
    try:
        for name in cluster.names:
            listener = socket.create_server(("127.0.0.1", 0))
            listeners.append(listener)
            there = urlsplit(cluster.client_url(name))
            found.endpoints[name] = f"http://127.0.0.1:{listener.getsockname()[1]}"
            upstream = (there.hostname or "", there.port or 0)
            threading.Thread(target=found.serve, args=(name, listener, upstream), daemon=True).start()
        yield found
    finally:
        found.open()
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
