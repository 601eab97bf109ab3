"""The gateway's errors; what it does with a real etcd is shown by the demo itself."""

from __future__ import annotations

import http.server
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from etcdguard.demo.gateway import Gateway
from etcdguard.errors import EtcdUnreachable
from tests.support.http_server import running


@contextmanager
def _server(status: int, body: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None: ...

    with running(http.server.HTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, json.dumps({"error": "etcdserver: no leader"}).encode()),
        (200, b"<html>not etcd</html>"),
        (200, b"[]"),
    ],
)
def test_anything_but_an_answer_is_an_error(status: int, body: bytes) -> None:
    with _server(status, body) as url, pytest.raises(EtcdUnreachable, match="kv/put"):
        Gateway(url).put("key", "value")


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(EtcdUnreachable, match="no answer"):
            Gateway(f"http://127.0.0.1:{taken.getsockname()[1]}").keys("/demo/")
