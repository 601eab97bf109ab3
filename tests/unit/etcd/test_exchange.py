"""gRPC's protocol as the snapshot speaks it, against h2's own server side and against frames made by hand."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, WindowUpdated
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.etcd.exchange import MOST_MESSAGE_BYTES, WINDOW_BYTES, CallFailed, Exchange
from tests.support.grpc_answers import OK, PATH, Answering, feed, frame, message

CODE = grpc.StatusCode
LARGEST = 1 << 14


def exchange(metadata: tuple[tuple[str, str], ...] = (), *, secure: bool = False) -> Exchange:
    return Exchange("etcd.test:2379", PATH, b"request", metadata, secure=secure)


def finish(client: Exchange, data: bytes) -> None:
    feed(client, data)
    assert client.ended
    client.finish()


def failure(client: Exchange, data: bytes) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallFailed) as raised:
        finish(client, data)
    return raised.value.code(), raised.value.details()


def test_the_request_is_grpcs() -> None:
    server = Answering(exchange((("token", "abc"),), secure=True).to_send())
    (request,) = (one for one in server.events if isinstance(one, RequestReceived))
    assert dict[Any, Any](request.headers) == {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "etcd.test:2379",
        ":path": PATH,
        "token": "abc",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    (body,) = (one for one in server.events if isinstance(one, DataReceived))
    assert (body.data, body.stream_ended is not None) == (message(b"request"), True)


@given(
    blobs=st.lists(st.binary(max_size=50_000), max_size=8),
    cut=st.integers(1, LARGEST),
    piece=st.integers(1, 300_000),
    padding=st.integers(0, 255),
)
@settings(deadline=None, max_examples=100)
def test_messages_come_whole_however_they_are_cut(
    blobs: list[bytes], cut: int, piece: int, padding: int
) -> None:
    client = exchange()
    server = Answering(client.to_send())
    body = b"".join(map(message, blobs))
    for number, start in enumerate(range(0, len(body), cut)):
        part = body[start : start + cut]
        if number % 3 == 1 and len(part) + 1 + padding <= LARGEST:
            server.raw(frame(bytes([padding]) + part + bytes(padding), flags=0x8))
        else:
            server.frames(part)
    server.trailers()
    assert feed(client, server.sent, piece if piece > 100 or len(body) < 5000 else 100) == blobs
    assert client.ended
    client.finish()


def test_the_window_opens_again_as_it_is_used() -> None:
    client = exchange()
    server = Answering(client.to_send())
    server.connection.receive_data(client.to_send())
    sent, opened = 0, 0
    for _ in range(5 * WINDOW_BYTES // LARGEST):
        room = min(server.connection.local_flow_control_window(1), LARGEST)
        assert room == LARGEST, "the server would wait for ever"
        server.connection.send_data(1, bytes(room))
        feed(client, server.sent + server.connection.data_to_send())
        server.sent = b""
        sent += room
        updates = [
            one for one in server.connection.receive_data(client.to_send()) if isinstance(one, WindowUpdated)
        ]
        assert {one.stream_id for one in updates} in (set(), {0, 1})
        opened += sum(one.delta or 0 for one in updates if one.stream_id == 0)
    assert sent - opened <= WINDOW_BYTES // 2 + LARGEST


def test_a_ping_is_answered_and_settings_are_acknowledged() -> None:
    client = exchange()
    server = Answering(client.to_send())
    server.connection.ping(b"are you?")
    feed(client, server.sent + server.connection.data_to_send())
    answers = {type(one).__name__ for one in server.connection.receive_data(client.to_send())}
    assert {"PingAckReceived", "SettingsAcknowledged"} <= answers


@pytest.mark.parametrize(
    ("trailers", "code", "details"),
    [
        ([("grpc-status", "14"), ("grpc-message", "no leader")], CODE.UNAVAILABLE, "no leader"),
        ([("grpc-status", "7"), ("grpc-message", "a%20b%C3%A9")], CODE.PERMISSION_DENIED, "a bé"),
        ([("grpc-status", "16")], CODE.UNAUTHENTICATED, ""),
        ([("grpc-status", "99"), ("grpc-message", "x")], CODE.UNKNOWN, "x"),
        ([("grpc-status", "no number")], CODE.UNKNOWN, ""),
        ([("something", "else")], CODE.UNKNOWN, ""),
    ],
)  # fmt: skip
def test_the_status_is_the_servers(
    trailers: list[tuple[str, str]], code: grpc.StatusCode, details: str
) -> None:
    client = exchange()
    assert failure(client, Answering(client.to_send()).frames(message(b"a")).trailers(trailers).sent) == (
        code,
        details,
    )
    client = exchange()
    headers = [(":status", "200"), ("content-type", "application/grpc"), *trailers]
    if "grpc-status" in dict(headers):  # without a body
        assert failure(client, Answering(client.to_send(), headers).sent) == (code, details)


def test_what_came_before_a_bad_status_is_still_handed_out() -> None:
    client = exchange()
    server = (
        Answering(client.to_send()).frames(message(b"a") + message(b"b")).trailers([("grpc-status", "14")])
    )
    assert feed(client, server.sent) == [b"a", b"b"]
    with pytest.raises(CallFailed):
        client.finish()


def http(status: str, kind: str = "application/grpc") -> Callable[[Answering], Answering]:
    def answer(server: Answering) -> Answering:
        headers = [(":status", status), *([("content-type", kind)] if kind else [])]
        server.connection.send_headers(1, headers)
        return server.raw(server.connection.data_to_send())

    return answer


def reset(reason: ErrorCodes) -> bytes:
    return frame(struct.pack(">I", reason), kind=3)


def goodbye(last: int, reason: ErrorCodes = ErrorCodes.NO_ERROR) -> bytes:
    return frame(struct.pack(">II", last, reason), kind=7, stream=0)


@pytest.mark.parametrize(
    ("lie", "code", "says"),
    [
        (http("404"), CODE.UNIMPLEMENTED, "HTTP status 404"),
        (http("503"), CODE.UNAVAILABLE, "HTTP status 503"),
        (http("401"), CODE.UNAUTHENTICATED, "HTTP status 401"),
        (http("302"), CODE.UNKNOWN, "HTTP status 302"),
        (http("200", "text/html"), CODE.UNKNOWN, "not gRPC's but text/html"),
        (http("200", ""), CODE.UNKNOWN, "not gRPC's but of no type"),
        (lambda server: server.frames(b"x"), CODE.INTERNAL, "data came that answers nothing"),
        (lambda server: server.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"), CODE.UNAVAILABLE, "not HTTP/2"),
        (lambda server: server.raw(frame(b"xx", kind=4, stream=0)), CODE.UNAVAILABLE, "not HTTP/2: "),
    ],
    ids=range(9),
)
def test_what_is_no_answer_to_a_call(
    lie: Callable[[Answering], Answering], code: grpc.StatusCode, says: str
) -> None:
    client = exchange()
    found, details = failure(client, lie(Answering(client.to_send(), [])).sent)
    assert found == code
    assert says in details


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (frame(message(b"a"), flags=0x1), CODE.UNKNOWN, "ended without a status"),
        (frame(b"", flags=0x8), CODE.INTERNAL, "nothing but padding"),
        (frame(b"\x05abcd", flags=0x8), CODE.INTERNAL, "nothing but padding"),
        (frame(message(b"a"), stream=3), CODE.INTERNAL, "answers nothing"),
        (frame(message(b"a", compressed=1)), CODE.INTERNAL, "compressed"),
        (frame(struct.pack(">BI", 0, MOST_MESSAGE_BYTES + 1)), CODE.RESOURCE_EXHAUSTED, "4194305 bytes"),
        (frame(bytes(LARGEST + 1)), CODE.UNAVAILABLE, "not HTTP/2"),
        (reset(ErrorCodes.CANCEL), CODE.CANCELLED, "reset the stream: CANCEL"),
        (reset(ErrorCodes.REFUSED_STREAM), CODE.UNAVAILABLE, "REFUSED_STREAM"),
        (frame(struct.pack(">I", 4711), kind=3), CODE.INTERNAL, "4711"),
        (goodbye(0), CODE.UNAVAILABLE, "ended the connection: NO_ERROR"),
        (goodbye(1, ErrorCodes.ENHANCE_YOUR_CALM), CODE.UNAVAILABLE, "ENHANCE_YOUR_CALM"),
        (frame(b"short", kind=7, stream=0), CODE.UNAVAILABLE, "not HTTP/2"),
    ],
    ids=range(13),
)
def test_an_answer_that_goes_wrong(data: bytes, code: grpc.StatusCode, says: str) -> None:
    client = exchange()
    found, details = failure(client, Answering(client.to_send()).raw(data).sent)
    assert found == code
    assert says in details


def test_a_server_that_stops_may_finish_what_it_began() -> None:
    client = exchange()
    server = Answering(client.to_send()).frames(message(b"a")[:3]).raw(goodbye(2**31 - 1)).raw(goodbye(1))
    assert feed(client, server.frames(message(b"a")[3:]).trailers().sent) == [b"a"]
    client.finish()


def test_a_message_that_is_cut_short_by_a_good_status() -> None:
    client = exchange()
    answer = Answering(client.to_send()).frames(message(b"abc")[:-1]).trailers(OK)
    assert failure(client, answer.sent) == (CODE.INTERNAL, "the last message was cut short")


def test_a_server_that_hangs_up() -> None:
    client = exchange()
    feed(client, Answering(client.to_send()).sent)
    with pytest.raises(CallFailed, match="UNAVAILABLE: the server closed the connection"):
        client.received(0)


def test_many_small_pieces_of_a_large_message_are_not_joined_each_time() -> None:
    """Else a server could keep us busy for hours with a few megabytes."""
    client = exchange()
    feed(client, Answering(client.to_send()).sent)
    whole = message(bytes(100_000))
    joined = 0
    for start in range(0, len(whole), 10):
        feed(client, frame(whole[start : start + 10]))
        joined += len(client._held[-1]) > 10
    assert joined <= 1
