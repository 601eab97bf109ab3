"""A real HTTP proxy between boto3 and a real S3 server that fails on cue.

Requests are forwarded with their Host header unchanged, so signatures stay valid. A fault is used up by
the requests it is planned for.
"""

from __future__ import annotations

import http.client
import http.server
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from tests.support.http_server import running

__all__ = ["FaultProxy", "HttpFault", "fault_proxy", "read_timeout"]


class HttpFault(Enum):
    """What happens to one request."""

    INTERNAL_ERROR = "500 with S3's error document, not forwarded"
    SLOW_DOWN = "503 SlowDown, not forwarded"
    RESET = "connection closed without an answer, not forwarded"
    LOST_ACK = "forwarded, then closed without an answer"
    CUT_BODY = "forwarded; the answer's body breaks off half-way"
    DELAY = "held until the client hangs up, not forwarded"
    GARBAGE = "200 with a page that is not S3's, not forwarded"
    REDIRECT = "301 PermanentRedirect to another region, not forwarded"
    DENIED = "403 AccessDenied, not forwarded"
    FLIPPED_ANSWER = "forwarded; one bit in the middle of the answer's body is another"
    FLIPPED_REQUEST = "forwarded with one bit in the middle of its body another"
    STALE = "the answer that the same request got when the proxy was told to remember, not forwarded"
    SLOW = "forwarded; the first 2000 bytes of the answer come at 1 kB a second"


def read_timeout(fault: HttpFault | None) -> float:
    """Seconds a client that meets ``fault`` waits for an answer: few only where waiting is the fault."""
    return 5.0 if fault is HttpFault.DELAY else 60.0


_ANSWERS = {
    HttpFault.INTERNAL_ERROR: (500, "<Error><Code>InternalError</Code><Message>We erred.</Message></Error>"),
    HttpFault.SLOW_DOWN: (503, "<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>"),
    HttpFault.GARBAGE: (200, "<html><body>Please sign in.</body></html>"),
    HttpFault.DENIED: (403, "<Error><Code>AccessDenied</Code><Message>Not you.</Message></Error>"),
    HttpFault.REDIRECT: (301, "<Error><Code>PermanentRedirect</Code><Message>Elsewhere.</Message></Error>"),
}


_Answer: TypeAlias = tuple[int, dict[str, str], bytes]
"""Status, headers and body."""


@dataclass
class _Planned:
    fault: HttpFault
    meets: Callable[[str, str], bool]
    skip: int
    times: int


class FaultProxy:
    """The proxy as a test holds it."""

    def __init__(self, endpoint_url: str, upstream: str) -> None:
        self.endpoint_url = endpoint_url
        self.upstream = upstream
        self.requests: list[str] = []
        """``METHOD path`` of every request that came in."""
        self.ranges: list[str] = []
        """The Range of every GET, empty where it asked for everything."""
        self.remembers = False
        """Whether answers are kept for STALE."""
        self.memory: dict[str, _Answer] = {}
        self._plan: list[_Planned] = []
        self._lock = threading.Lock()

    def plan(self, fault: HttpFault, method: str, path: str = "", *, skip: int = 0, times: int = 1) -> None:
        """Meet the next ``times`` requests of ``method`` whose path and query contain ``path``."""
        self.plan_for(fault, lambda verb, there: verb == method and path in there, skip=skip, times=times)

    def plan_for(
        self, fault: HttpFault, meets: Callable[[str, str], bool], *, skip: int = 0, times: int = 1
    ) -> None:
        """The same for requests that ``meets`` picks by method and path."""
        with self._lock:
            self._plan.append(_Planned(fault, meets, skip, times))

    def recover(self) -> None:
        """Forget every fault that is still planned."""
        with self._lock:
            self._plan.clear()

    def fault_for(self, method: str, path: str, byte_range: str = "") -> HttpFault | None:
        """Take the fault this request meets."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            if method == "GET":
                self.ranges.append(byte_range)
            for planned in self._plan:
                if planned.meets(method, path):
                    if planned.skip:
                        planned.skip -= 1
                        return None
                    planned.times -= 1
                    if not planned.times:
                        self._plan.remove(planned)
                    return planned.fault
        return None

    @property
    def unmet(self) -> int:
        """Faults no request has met yet: a test with any left has not tested what it says."""
        return sum(planned.times for planned in self._plan)


@contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy in front of the server at ``upstream`` (an http URL)."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = FaultProxy(f"http://127.0.0.1:{server.server_port}", upstream)
    with running(server):
        yield server.proxy


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is killed resets its connection, as it should."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.proxy.fault_for(self.command, self.path, self.headers.get("Range", ""))
        if fault is HttpFault.DELAY:
            self.rfile.read(1)  # nothing comes before the end
            self.close_connection = True
        elif fault is HttpFault.RESET:
            self._hang_up()
        elif fault in _ANSWERS:
            status, text = _ANSWERS[fault]
            self._answer(status, {"x-amz-bucket-region": "eu-north-1"}, text.encode(), cut=False)
        else:
            self._pass_on(body, fault)

    def _pass_on(self, body: bytes, fault: HttpFault | None) -> None:
        proxy = self.server.proxy
        if fault is HttpFault.STALE and self.path in proxy.memory:
            status, headers, answer = proxy.memory[self.path]
        else:
            sent = _flipped(body) if fault is HttpFault.FLIPPED_REQUEST else body
            status, headers, answer = self._forward(sent)
        if proxy.remembers and self.command == "GET":
            proxy.memory[self.path] = (status, dict(headers), answer)
        if fault is HttpFault.LOST_ACK:
            self._hang_up()
            return
        if fault is HttpFault.FLIPPED_ANSWER:
            answer = _flipped(answer)
        self._answer(
            status, dict(headers), answer, cut=fault is HttpFault.CUT_BODY, slow=fault is HttpFault.SLOW
        )

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815

    def _forward(self, body: bytes) -> _Answer:
        there = urlsplit(self.server.proxy.upstream)
        connection = http.client.HTTPConnection(there.hostname or "", there.port, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            kept = {n: v for n, v in response.getheaders() if n.lower() not in _HOP_BY_HOP}
            return response.status, kept, response.read()
        finally:
            connection.close()

    def _answer(
        self, status: int, headers: dict[str, str], body: bytes, *, cut: bool, slow: bool = False
    ) -> None:
        self.send_response_only(status)
        length = headers.pop("Content-Length", str(len(body)))  # of HEAD: the object's, without a body
        for name, value in {**headers, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if slow:
            for start in range(0, min(len(body), _SLOW_BYTES), _SLOW_PIECE):
                time.sleep(_SLOW_PIECE / 1000)
                self.wfile.write(body[start : start + _SLOW_PIECE])
            body = body[_SLOW_BYTES:]
        if body:
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


def _flipped(body: bytes) -> bytes:
    changed = bytearray(body)
    changed[len(changed) // 2] ^= 0x01
    return bytes(changed)


_SLOW_BYTES, _SLOW_PIECE = 2000, 200
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}
