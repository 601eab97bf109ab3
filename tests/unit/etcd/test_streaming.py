"""The connection of a streaming call: how it begins, and how it ends."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from etcdguard.etcd.connection import Address
from etcdguard.etcd.exchange import CallFailed
from etcdguard.etcd.streaming import StreamingCall
from tests.support.grpc_answers import PATH, Answering, message
from tests.support.waiting import PLENTY

CODE = grpc.StatusCode


def call_to(port: int) -> StreamingCall:
    address = Address(secure=False, host="127.0.0.1", port=port)
    return StreamingCall(address, PATH, b"", tls=None, metadata=tuple, connect_timeout=PLENTY)


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of one that takes a single connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            with connection:
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join()


def until_closed(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def ended(call: StreamingCall) -> tuple[list[bytes], grpc.StatusCode | None]:
    taken = []
    try:
        for one in call:
            taken.append(bytes(one))
    except CallFailed as error:
        return taken, error.code()
    return taken, None


def test_messages_come_and_the_connection_is_closed() -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        answer = Answering(connection.recv(65536)).frames(message(b"a"), message(b"b")).trailers()
        connection.sendall(answer.sent)
        until_closed(connection)
        closed.set()

    with server(serve) as port:
        assert ended(call_to(port)) == ([b"a", b"b"], None)
        assert closed.wait(PLENTY)


def test_an_iteration_that_is_left_closes_the_connection() -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(Answering(connection.recv(65536)).frames(message(b"a")).sent)
        until_closed(connection)
        closed.set()

    with server(serve) as port:
        messages = iter(call_to(port))
        next(messages)
        del messages
        assert closed.wait(PLENTY)


def test_a_call_that_waits_can_be_cancelled() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(Answering(connection.recv(65536)).frames(message(b"a")).sent)
        call.cancel()
        until_closed(connection)

    with server(serve) as port:
        call = call_to(port)
        taken, code = ended(call)
        assert code == CODE.CANCELLED
        assert taken in ([], [b"a"])
        call.cancel()  # once more does no harm


def test_a_call_that_was_cancelled_before_sends_nothing() -> None:
    heard = bytearray()

    def serve(connection: socket.socket) -> None:
        while data := connection.recv(65536):
            heard.extend(data)

    with server(serve) as port:
        call = call_to(port)
        call.cancel()
        assert ended(call) == ([], CODE.CANCELLED)
    assert heard == b""


def test_a_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert ended(call_to(port)) == ([], CODE.UNAVAILABLE)


def test_a_connection_that_breaks() -> None:
    def serve(connection: socket.socket) -> None:
        connection.sendall(Answering(connection.recv(65536)).frames(message(b"a")).sent)
        connection.shutdown(socket.SHUT_WR)
        until_closed(connection)

    with server(serve) as port:
        assert ended(call_to(port)) == ([b"a"], CODE.UNAVAILABLE)


def test_it_goes_past_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTPS_PROXY", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    def serve(connection: socket.socket) -> None:
        connection.sendall(Answering(connection.recv(65536)).trailers().sent)
        until_closed(connection)

    with server(serve) as port:
        assert ended(call_to(port)) == ([], None)
