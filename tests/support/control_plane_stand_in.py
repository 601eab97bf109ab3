#!/usr/bin/python3
"""Stands in for kube-apiserver, kube-controller-manager and kube-scheduler inside test hosts.

Holds the port ``--secure-port`` (plain HTTP here). With ``--etcd-servers`` it is a client of etcd over mutual
TLS as the API server is: it keeps a connection open, and ``/readyz`` fails while etcd does not serve.
``/livez`` never does. Flags have the names of the real programs'. Standard library only.
"""

from __future__ import annotations

import argparse
import http.client
import http.server
import ssl
import threading
import time
from urllib.parse import urlsplit

_POLL_SECONDS = 0.5
_TIMEOUT = 2.0


class EtcdWatcher(threading.Thread):
    """Asks etcd for its health over one connection, made again whenever it breaks."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(url).netloc
        self._context = context
        self.healthy = False

    def run(self) -> None:
        """Forever."""
        while True:
            connection = http.client.HTTPSConnection(self._address, timeout=_TIMEOUT, context=self._context)
            try:
                while True:
                    connection.request("GET", "/health")
                    answer = connection.getresponse()
                    answer.read()
                    self.healthy = answer.status == http.HTTPStatus.OK
                    time.sleep(_POLL_SECONDS)
            except (OSError, http.client.HTTPException) as error:
                self.healthy = False
                print(f"etcd at {self._address}: {error}", flush=True)
            finally:
                connection.close()
            time.sleep(_POLL_SECONDS)


def main() -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--secure-port", type=int, required=True)
    parser.add_argument("--etcd-servers")
    parser.add_argument("--etcd-cafile")
    parser.add_argument("--etcd-certfile")
    parser.add_argument("--etcd-keyfile")
    flags = parser.parse_args()
    etcd: EtcdWatcher | None = None
    if flags.etcd_servers:
        context = ssl.create_default_context(cafile=flags.etcd_cafile)
        context.load_cert_chain(flags.etcd_certfile, flags.etcd_keyfile)
        etcd = EtcdWatcher(flags.etcd_servers, context)
        etcd.start()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """The two health paths."""
            ready = self.path != "/readyz" or etcd is None or etcd.healthy
            body = b"ok\n" if ready else b"[-]etcd failed\n"
            self.send_response(200 if ready else 500)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    http.server.ThreadingHTTPServer(("", flags.secure_port), Handler).serve_forever()


if __name__ == "__main__":
    main()
