"""Real members' metrics, over every way they are served; and servers that are no etcd."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.metrics import Page, Scraper, quota_bytes
from etcdguard.etcd.source import EndpointFailure
from tests.support.certs import Pki
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version

QUOTA = 1_500_000_000


def now() -> datetime:
    return datetime.now(timezone.utc)


@each_etcd_version
def test_every_version_over_mutual_tls(cluster_factory: ClusterFactory, pki: Pki) -> None:
    cluster = cluster_factory(names=("alone",), tls=pki.tls(), quota_bytes=QUOTA)
    options = ConnectionOptions(
        cluster.client_urls, cacert=pki.ca, cert=pki.client.cert, key=pki.client.key, command_timeout=30.0
    )
    with EtcdClient(options) as client:
        (status,) = client.statuses()
    assert not isinstance(status, EndpointFailure)

    (page,) = Scraper(options, (), now).pages()

    assert isinstance(page, Page)
    assert page.member_id == status.member_id
    assert page.metrics.value("etcd_server_has_leader") == 1
    assert page.metrics.value("etcd_server_is_leader") == 1
    assert quota_bytes(status, page.metrics) == QUOTA
    for name in ("wal_fsync", "backend_commit"):
        histogram = page.metrics.histogram(f"etcd_disk_{name}_duration_seconds")
        assert histogram is not None
        assert histogram.count > 0
    assert page.least_skew == 0.0  # it is the same clock

    stranger = ConnectionOptions(cluster.client_urls, cacert=pki.ca)
    (refused,) = Scraper(stranger, (), now).pages()
    assert isinstance(refused, EndpointFailure)
    assert isinstance(refused.error, EtcdUnreachable)


def test_metrics_urls_of_their_own_and_any_order(cluster_factory: ClusterFactory, pki: Pki) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}"
        cluster = cluster_factory(
            names=("alone",), tls=pki.tls(), extra_args=(f"--listen-metrics-urls={url}",)
        )
        options = ConnectionOptions(cluster.client_urls, cacert=pki.ca, command_timeout=30.0)

        (page,) = Scraper(options, (url,), now).pages()

    assert isinstance(page, Page)
    assert page.url == url
    assert page.metrics.value("etcd_server_has_leader") == 1


def test_another_clock_is_noticed(shared_cluster: LocalCluster) -> None:
    """Of ours, because it is ours that a test can change."""
    options = ConnectionOptions(shared_cluster.client_urls[:1], command_timeout=30.0)
    (page,) = Scraper(options, (), lambda: now() - timedelta(hours=1)).pages()

    assert isinstance(page, Page)
    assert page.least_skew is not None
    assert 3000 < page.least_skew <= 3601


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "cannot be read"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404 Not Found"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n", "not the metrics of an etcd member"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "not a metrics page"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na 1\n", "cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\na 1\n", "cannot be read"),
    ],
    ids=["nothing", "404", "other", "html", "short", "short-chunk"],
)
def test_an_answer_that_is_not_etcds(answer: bytes, said: str) -> None:
    with answering(answer) as url:
        scraper = Scraper(ConnectionOptions((url,), command_timeout=30.0), (), now)
        with pytest.raises(EtcdUnreachable, match=said) as caught:
            scraper.page(url)
        (failure,) = scraper.pages()

    assert "metrics_urls" in caught.value.hint
    assert isinstance(failure, EndpointFailure)
    assert failure.endpoint == url


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that says the same to everybody, and then no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
