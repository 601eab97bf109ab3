"""A TCP proxy between one client and one server that can be cut: refusing, or silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Literal

__all__ = ["Mode", "TcpProxy"]

Mode = Literal["open", "refusing", "silent"]
"""``refusing`` hangs up on everybody; ``silent`` keeps connections and lets nothing through."""

_PIECE = 65536


class TcpProxy:
    """Listens on a port of its own at ``address`` and forwards to ``host:port``. Close it."""

    def __init__(self, host: str, port: int, *, address: str = "127.0.0.1") -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server((address, 0))
        self.address = address
        self.port: int = self._listener.getsockname()[1]
        self._mode: Mode = "open"
        self._guard = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._changed = threading.Condition(self._guard)
        self._closed = False
        threading.Thread(target=self._accept, name="tcp-proxy", daemon=True).start()

    @property
    def netloc(self) -> str:
        """``host:port`` for clients."""
        return f"{self.address}:{self.port}"

    def set(self, mode: Mode) -> None:
        """Cut or heal. Whatever was silent is hung up when it heals, as after a partition."""
        with self._changed:
            was, self._mode = self._mode, mode
            if mode == "refusing" or was != "open":
                self._hang_up()
            self._changed.notify_all()

    def close(self) -> None:
        """End it, and every connection through it."""
        with self._changed:
            self._closed = True
            self._hang_up()
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _hang_up(self) -> None:
        for pair in self._pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            with self._guard:
                refused = self._closed or self._mode == "refusing"
            if refused:
                client.close()
            else:
                threading.Thread(target=self._serve, args=(client,), name="tcp-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._upstream, 10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = (client, server)
        with self._guard:
            self._pairs.add(pair)
        try:
            self._pump(client, server)
        except OSError:
            pass  # one side hung up
        finally:
            with self._guard:
                self._pairs.discard(pair)
            client.close()
            server.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        with selectors.DefaultSelector() as selector:
            for one in other:
                selector.register(one, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(_PIECE)
                    if not data:
                        return
                    with self._changed:
                        while self._mode == "silent" and not self._closed:
                            self._changed.wait()
                        if self._mode != "open" or self._closed:
                            return
                    other[source].sendall(data)
