"""One gRPC call that a stream answers, over a connection of its own.

Always a direct one: what a proxy is set for is the repository, and gRPC's channels are told the same.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import grpc

from etcdguard.etcd.auth import Metadata
from etcdguard.etcd.connection import Address, Tls
from etcdguard.etcd.exchange import CallFailed, Exchange

__all__ = ["StreamingCall"]


class StreamingCall:
    """Sent by iterating, once: the messages as they come. Raises grpc.RpcError when it fails or is cancelled.

    ``metadata`` is asked for then. Connecting may take ``connect_timeout`` seconds; the call has no deadline.
    """

    def __init__(
        self,
        address: Address,
        path: str,
        request: bytes,
        *,
        tls: Tls | None,
        metadata: Callable[[], Metadata],
        connect_timeout: float,
    ) -> None:
        self._address = address
        self._path = path
        self._request = request
        self._tls = tls if address.secure else None
        self._server_name = self._tls.server_name if self._tls is not None else None
        self._metadata = metadata
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False

    def __iter__(self) -> Iterator[memoryview]:
        address = self._address
        authority, metadata = self._server_name or address.netloc, self._metadata()
        exchange = Exchange(authority, self._path, self._request, metadata, secure=address.secure)
        try:
            with self._connected() as connection:
                while not exchange.ended:
                    told = exchange.to_send()
                    if told:
                        connection.sendall(told)
                    yield from exchange.received(connection.recv_into(exchange.room()))
            exchange.finish()
        except (CallFailed, OSError) as error:
            if self._cancelled:
                raise CallFailed(grpc.StatusCode.CANCELLED, "the call was cancelled") from error
            if isinstance(error, OSError):
                raise CallFailed(grpc.StatusCode.UNAVAILABLE, error.strerror or str(error)) from error
            raise

    def cancel(self) -> None:
        """End the call from any thread: an iteration ends as soon as it is connected. Idempotent."""
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                _shut(self._socket)

    def _connected(self) -> socket.socket:
        """With TLS where the address wants it, and then without a timeout."""
        address = self._address
        connection = socket.create_connection((address.host, address.port), self._connect_timeout)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                name = self._server_name or address.host
                connection = self._tls.context.wrap_socket(connection, server_hostname=name)
            connection.settimeout(None)
            with self._lock:
                self._socket = connection
                if self._cancelled:
                    _shut(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _shut(connection: socket.socket) -> None:
    """Free whoever reads; not by SSLSocket's own shutdown, after which it would read on without TLS."""
    with suppress(OSError):  # it has come apart by itself
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
