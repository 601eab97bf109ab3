"""HTTP for those who look: metrics, health and a status page. It shows, and changes nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from etcdguard.errors import UsageError
from etcdguard.log import get_logger

__all__ = ["Answer", "Page", "StatusServer"]

_log = get_logger()

_SECONDS = 10.0
"""That a client may take for its request."""


@dataclass(frozen=True)
class Answer:
    """What one address answers with."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK


Page = Callable[[], Answer]


class StatusServer:
    """Serves ``pages`` by path until closed; GET and HEAD only. UsageError when the address is taken."""

    def __init__(self, host: str, port: int, pages: Mapping[str, Page]) -> None:
        class Handler(_Handler):
            found = pages

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Handler)
        except OSError as error:
            raise UsageError(
                f"cannot listen on {host} port {port}: {error.strerror}",
                hint="choose another daemon.listen, or stop what listens there",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)
        self._thread.start()
        _log.info("status.listening", host=host, port=self.port)

    @property
    def port(self) -> int:
        """The port, also where any was asked for."""
        return int(self._server.server_address[1])

    def __enter__(self) -> StatusServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    found: Mapping[str, Page] = {}
    timeout = _SECONDS
    server_version = "etcdguard"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are no news."""

    def _answer(self, *, with_body: bool) -> None:
        page = self.found.get(self.path.partition("?")[0])
        if page is None:
            answer = Answer(b"not found\n", status=HTTPStatus.NOT_FOUND)
        else:
            try:
                answer = page()
            except Exception:  # noqa: BLE001  (the daemon's work must not suffer from how it is shown)
                _log.exception("status.failed", path=self.path)
                answer = Answer(b"internal error\n", status=HTTPStatus.INTERNAL_SERVER_ERROR)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)
