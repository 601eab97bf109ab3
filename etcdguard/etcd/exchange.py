"""The protocol of one gRPC call that a stream answers, without its socket: bytes in, messages out.

The connection, its headers, settings and pings are h2's. DATA frames, nearly all of what comes, are cut out
of the receive buffer here: h2 takes ten times as long for one, and a snapshot of 1 GB has a hundred thousand
of them (docs/adr/0012-the-snapshot-stream-past-grpc.md). Protocols: RFC 9113, and "gRPC over HTTP2" of gRPC's
own documentation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote

import grpc
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import Event, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

__all__ = ["CallFailed", "Exchange", "MOST_MESSAGE_BYTES", "WINDOW_BYTES"]

WINDOW_BYTES = 2 << 20
"""So much a server may send before it hears that we have taken some of it."""

MOST_MESSAGE_BYTES = 4 << 20
"""etcd's have 32 KiB."""

_BUFFER_BYTES = 256 << 10
_MOST_FRAME_BYTES = 1 << 14
"""What a client allows that says nothing about it."""

_STREAM = 1
"""The first stream of a client, and here the only one."""

_FRAME_HEAD = struct.Struct(">IBI")
"""Length (24 bits) and kind, flags, stream."""

_DATA, _GOAWAY, _WINDOW_UPDATE = 0, 7, 8
_END_STREAM, _PADDED = 0x1, 0x8
_GOAWAY_BODY = struct.Struct(">II")
_MESSAGE_HEAD = struct.Struct(">BI")
"""Whether it is compressed, and its length."""

_CODE = grpc.StatusCode
_BY_NUMBER = {str(code.value[0]): code for code in _CODE}
_BY_HTTP_STATUS = {
    "401": _CODE.UNAUTHENTICATED,
    "403": _CODE.PERMISSION_DENIED,
    "404": _CODE.UNIMPLEMENTED,
    **dict.fromkeys(("429", "502", "503", "504"), _CODE.UNAVAILABLE),
}
_BY_RESET: dict[int, grpc.StatusCode] = {
    ErrorCodes.REFUSED_STREAM: _CODE.UNAVAILABLE,
    ErrorCodes.CANCEL: _CODE.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: _CODE.RESOURCE_EXHAUSTED,
    ErrorCodes.INADEQUATE_SECURITY: _CODE.PERMISSION_DENIED,
}


class CallFailed(grpc.RpcError):  # type: ignore[misc]  # grpcio is untyped
    """Why a call ended, as gRPC's own errors tell it."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(f"{code.name}: {details}")
        self._code = code
        self._details = details

    def code(self) -> grpc.StatusCode:
        """One of gRPC's."""
        return self._code

    def details(self) -> str:
        """What the server, or we, say about it."""
        return self._details


class Exchange:
    """A request, and the messages that answer it until it has ``ended``.

    Read the socket into ``room``, say with ``received`` how much came, send what ``to_send`` returns, and in
    the end ask ``finish``. All raise CallFailed for what is no answer to a gRPC call.
    """

    def __init__(
        self, authority: str, path: str, request: bytes, metadata: Sequence[tuple[str, str]], *, secure: bool
    ) -> None:
        self.ended = False
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._filled = 0
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._wanted = _MESSAGE_HEAD.size
        self._untold = 0
        self._answered = False
        self._outcome: CallFailed | None = CallFailed(_CODE.UNKNOWN, "the answer ended without a status")
        self._updates = b""
        scheme = "https" if secure else "http"
        self._connection = _connected(
            [(":method", "POST"), (":scheme", scheme), (":authority", authority), (":path", path), *metadata],
            _MESSAGE_HEAD.pack(0, len(request)) + request,
        )

    def to_send(self) -> bytes:
        """What the server must hear now; often nothing."""
        updates, self._updates = self._updates, b""
        return self._connection.data_to_send() + updates

    def room(self) -> memoryview:
        """Where the next bytes belong; never empty."""
        return self._buffer[self._filled :]

    def received(self, count: int) -> list[memoryview]:
        """The messages that ``count`` more bytes in ``room`` make whole; 0 bytes: the server has hung up."""
        if count == 0:
            raise CallFailed(_CODE.UNAVAILABLE, "the server closed the connection")
        self._filled += count
        taken, payloads = self._frames()
        messages = self._messages(payloads) if payloads else []
        left = self._filled - taken
        if taken and left:
            self._buffer[:left] = bytes(self._buffer[taken : self._filled])
        self._filled = left
        return messages

    def finish(self) -> None:
        """Once it has ``ended``: raise CallFailed unless the server says all is well, and all is there."""
        if self._outcome is not None:
            raise self._outcome
        if self._held_bytes:
            raise CallFailed(_CODE.INTERNAL, "the last message was cut short")

    def _frames(self) -> tuple[int, list[memoryview]]:
        """How many bytes of the buffer are whole frames, and views of what they carry for our call."""
        buffer, filled, unpack = self._buffer, self._filled, _FRAME_HEAD.unpack_from
        payloads = []
        at = 0
        while filled - at >= _FRAME_HEAD.size:
            head, flags, stream = unpack(buffer, at)
            begin = at + _FRAME_HEAD.size
            end = begin + (head >> 8)
            if end - begin > _MOST_FRAME_BYTES:
                raise CallFailed(_CODE.UNAVAILABLE, "the answer is not HTTP/2")
            if end > filled:
                break
            if head & 0xFF != _DATA:
                self._control(head & 0xFF, buffer[at:end])
            elif stream != _STREAM or not self._answered or self.ended:
                raise CallFailed(_CODE.INTERNAL, "data came that answers nothing")
            else:
                self._untold += end - begin
                payloads.append(self._data(buffer[begin:end], flags) if flags else buffer[begin:end])
            at = end
        if self._untold > WINDOW_BYTES // 2:
            self._update_windows()
        return at, payloads

    def _data(self, payload: memoryview, flags: int) -> memoryview:
        if flags & _END_STREAM:
            self.ended = True
        if flags & _PADDED:
            padding = 1 + payload[0] if payload else 1
            if padding > len(payload):
                raise CallFailed(_CODE.INTERNAL, "a frame is nothing but padding")
            payload = payload[1 : len(payload) - padding + 1]
        return payload

    def _update_windows(self) -> None:
        for stream in (0, _STREAM):
            self._updates += _FRAME_HEAD.pack(4 << 8 | _WINDOW_UPDATE, 0, stream)
            self._updates += self._untold.to_bytes(4, "big")
        self._untold = 0

    def _messages(self, payloads: Sequence[memoryview]) -> list[memoryview]:
        """The whole messages in what is held and in ``payloads``; what is left is held until more comes."""
        self._held_bytes += sum(map(len, payloads))
        if self._held_bytes < self._wanted:
            self._held.append(b"".join(payloads))  # what they view is overwritten by what comes next
            return []
        joined = memoryview(b"".join([*self._held, *payloads]))
        messages = []
        at, size = 0, len(joined)
        self._wanted = _MESSAGE_HEAD.size
        while size - at >= _MESSAGE_HEAD.size:
            compressed, length = _MESSAGE_HEAD.unpack_from(joined, at)
            if compressed:
                raise CallFailed(_CODE.INTERNAL, "a message is compressed, which nobody asked for")
            if length > MOST_MESSAGE_BYTES:
                raise CallFailed(_CODE.RESOURCE_EXHAUSTED, f"a message of {length} bytes was announced")
            begin = at + _MESSAGE_HEAD.size
            if begin + length > size:
                self._wanted += length
                break
            messages.append(joined[begin : begin + length])
            at = begin + length
        self._held, self._held_bytes = [bytes(joined[at:])], size - at
        return messages

    def _control(self, kind: int, frame: memoryview) -> None:
        """Any other frame."""
        if kind == _GOAWAY:
            self._going_away(frame[_FRAME_HEAD.size :])
            return
        try:
            for event in self._connection.receive_data(bytes(frame)):
                self._take(event)
        except ProtocolError as error:
            raise CallFailed(_CODE.UNAVAILABLE, f"the answer is not HTTP/2: {error}") from error

    def _going_away(self, body: memoryview) -> None:
        """A server that stops may still finish what it began; h2 would refuse to listen."""
        if len(body) < _GOAWAY_BODY.size:
            raise CallFailed(_CODE.UNAVAILABLE, "the answer is not HTTP/2")
        last, reason = _GOAWAY_BODY.unpack_from(body)
        if reason or last & 0x7FFFFFFF < _STREAM:
            raise CallFailed(_CODE.UNAVAILABLE, f"the server ended the connection: {_reason(reason)}")

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self._answer(_texts(event.headers))
        elif isinstance(event, TrailersReceived):
            self._outcome = _outcome(_texts(event.headers))
        elif isinstance(event, StreamEnded):
            self.ended = True
        elif isinstance(event, StreamReset):
            self.ended = True
            number = int(event.error_code or 0)
            code = _BY_RESET.get(number, _CODE.INTERNAL)
            self._outcome = CallFailed(code, f"the server reset the stream: {_reason(number)}")

    def _answer(self, headers: dict[str, str]) -> None:
        self._answered = True
        if "grpc-status" in headers:  # all that comes
            self._outcome = _outcome(headers)
        status, kind = headers.get(":status", ""), headers.get("content-type", "")
        if status != "200":
            raise CallFailed(_BY_HTTP_STATUS.get(status, _CODE.UNKNOWN), f"HTTP status {status}")
        if not kind.startswith("application/grpc"):
            raise CallFailed(_CODE.UNKNOWN, f"the answer is not gRPC's but {kind or 'of no type'}")


def _connected(headers: list[tuple[str, str]], request: bytes) -> H2Connection:
    connection = H2Connection(H2Configuration(client_side=True, header_encoding=None))
    connection.local_settings = Settings(
        client=True,
        initial_values={SettingCodes.ENABLE_PUSH: 0, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES},
    )
    connection.initiate_connection()
    connection.increment_flow_control_window(WINDOW_BYTES - connection.inbound_flow_control_window)
    connection.send_headers(_STREAM, [*headers, ("te", "trailers"), ("content-type", "application/grpc")])
    connection.send_data(_STREAM, request, end_stream=True)
    return connection


def _texts(headers: Iterable[tuple[Any, ...]]) -> dict[str, str]:
    return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in headers}


def _outcome(headers: dict[str, str]) -> CallFailed | None:
    said = headers.get("grpc-status", "")
    code = _BY_NUMBER.get(said, _CODE.UNKNOWN)
    return None if code == _CODE.OK else CallFailed(code, unquote(headers.get("grpc-message", "")))


def _reason(number: int) -> str:
    return next((code.name for code in ErrorCodes if code == number), str(number))
