"""The connection of a streaming call: how it begins, and how it ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from etcdguard.etcd.connection import Address
from etcdguard.etcd.exchange import CallFailed
from etcdguard.etcd.streaming import messages_of
from tests.support.grpc_answers import PATH, Answering, message
from tests.support.waiting import PLENTY

CODE = grpc.StatusCode


def call_to(port: int, patience: Callable[[], float] = lambda: PLENTY) -> Iterator[memoryview]:
    address = Address(secure=False, host="127.0.0.1", port=port)
    return messages_of(
        address, PATH, b"", tls=None, metadata=tuple, connect_timeout=PLENTY, patience=patience
    )


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


def ended(call: Iterator[memoryview]) -> tuple[list[bytes], grpc.StatusCode | None]:
    taken: list[bytes] = []
    try:
        take(call, taken)
    except CallFailed as error:
        return taken, error.code()
    return taken, None


def take(call: Iterator[memoryview], taken: list[bytes]) -> None:
    for one in call:
        taken.append(bytes(one))


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
        messages = call_to(port)
        next(messages)
        del messages
        assert closed.wait(PLENTY)


class GivenUp(Exception):
    pass


def test_patience_is_asked_before_each_wait_and_gives_up() -> None:
    closed = threading.Event()

    def serve(connection: socket.socket) -> None:
        connection.sendall(Answering(connection.recv(65536)).frames(message(b"a")).sent)
        until_closed(connection)
        closed.set()

    def patience() -> float:
        if len(taken) == 1 and waits.count(0.01) == 3:
            raise GivenUp
        waits.append(0.01 if taken else PLENTY)
        return waits[-1]

    taken: list[bytes] = []
    waits: list[float] = []
    with server(serve) as port:
        with pytest.raises(GivenUp) as given_up:  # and keep its frames: nothing ends by itself
            take(call_to(port, patience), taken)
        assert closed.wait(PLENTY), given_up
    assert waits[-3:] == [0.01] * 3


def test_a_wait_that_was_too_short_loses_nothing() -> None:
    def serve(connection: socket.socket) -> None:
        for byte in Answering(connection.recv(65536)).frames(message(b"a"), message(b"b")).trailers().sent:
            time.sleep(0.003)
            connection.sendall(bytes([byte]))
        until_closed(connection)

    with server(serve) as port:
        assert ended(call_to(port, lambda: 0.001)) == ([b"a", b"b"], None)


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
