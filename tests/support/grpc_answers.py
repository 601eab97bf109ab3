"""The server's side of one gRPC call, in the bytes that a client gets: by h2, and by frames made by hand."""

from __future__ import annotations

import struct

from h2.config import H2Configuration
from h2.connection import H2Connection

from etcdguard.etcd.exchange import Exchange

__all__ = ["OK", "PATH", "Answering", "feed", "frame", "message"]

PATH = "/etcdserverpb.Maintenance/Snapshot"
OK = [("grpc-status", "0")]
_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


def message(blob: bytes, *, compressed: int = 0) -> bytes:
    """With gRPC's five bytes before it."""
    return struct.pack(">BI", compressed, len(blob)) + blob


def frame(payload: bytes, *, kind: int = 0, flags: int = 0, stream: int = 1) -> bytes:
    """One frame of HTTP/2, DATA unless told otherwise."""
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def feed(client: Exchange, data: bytes, piece: int = 1 << 20) -> list[bytes]:
    """What ``client`` makes of ``data``, which comes in pieces."""
    messages: list[bytes] = []
    while data:
        room = client.room()
        count = min(piece, len(data), len(room))
        room[:count] = data[:count]
        data = data[count:]
        messages += map(bytes, client.received(count))
    return messages


class Answering:
    """A server that has heard ``request``. ``sent`` gathers what goes to the client."""

    def __init__(self, request: bytes, headers: list[tuple[str, str]] | None = None) -> None:
        self.connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.connection.initiate_connection()
        self.events = self.connection.receive_data(request)
        if headers is None:
            self.connection.send_headers(1, _HEADERS)
        elif headers:
            self.connection.send_headers(1, headers, end_stream="grpc-status" in dict(headers))
        self.sent = self.connection.data_to_send()

    def frames(self, *payloads: bytes) -> Answering:
        """DATA frames."""
        self.sent += b"".join(map(frame, payloads))
        return self

    def raw(self, data: bytes) -> Answering:
        """Whatever."""
        self.sent += data
        return self

    def trailers(self, headers: list[tuple[str, str]] = OK) -> Answering:
        """The end."""
        self.connection.send_headers(1, headers, end_stream=True)
        self.sent += self.connection.data_to_send()
        return self
