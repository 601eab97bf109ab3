"""One gRPC call that a stream answers, over a connection of its own.

Always a direct one: what a proxy is set for is the repository, and gRPC's channels are told the same.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import grpc

from etcdguard.etcd.auth import Metadata
from etcdguard.etcd.connection import Address, Tls
from etcdguard.etcd.exchange import CallFailed, Exchange

__all__ = ["messages_of"]


def messages_of(
    address: Address,
    path: str,
    request: bytes,
    *,
    tls: Tls | None,
    metadata: Callable[[], Metadata],
    connect_timeout: float,
    patience: Callable[[], float],
) -> Iterator[memoryview]:
    """The messages that answer one call, as they come; leaving the iteration ends the call.

    ``metadata`` is asked for when it begins. Connecting may take ``connect_timeout`` seconds, and each wait
    for the server as many as ``patience`` says before it: only that gives up on a server that says nothing,
    by raising. Raises grpc.RpcError when the call fails.
    """
    tls = tls if address.secure else None
    name = None if tls is None else tls.server_name
    exchange = Exchange(name or address.netloc, path, request, metadata(), secure=address.secure)
    try:
        with _connected(address, tls, connect_timeout) as connection:
            while not exchange.ended:
                connection.settimeout(patience())
                try:
                    told = exchange.to_send()
                    if told:
                        connection.sendall(told)
                    count = connection.recv_into(exchange.room())
                except TimeoutError:
                    continue
                yield from exchange.received(count)
        exchange.finish()
    except OSError as error:
        raise CallFailed(grpc.StatusCode.UNAVAILABLE, error.strerror or str(error)) from error


def _connected(address: Address, tls: Tls | None, timeout: float) -> socket.socket:
    """With TLS where it is wanted."""
    connection = socket.create_connection((address.host, address.port), timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is None:
            return connection
        return tls.context.wrap_socket(connection, server_hostname=tls.server_name or address.host)
    except BaseException:
        connection.close()
        raise
