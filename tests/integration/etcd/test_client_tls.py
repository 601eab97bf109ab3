"""TLS, mutual TLS, and every way they can be wrong: one line that names the cause, one hint that fits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.source import EndpointFailure, StreamLimits
from etcdguard.etcd.stream import TrailerCheck
from tests.support.certs import Pki
from tests.support.etcd_versions import Unavailable, default_programs
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version

# The same address to the kernel, and to TLS one that no certificate here carries.
OTHER_SPELLING = "[::ffff:127.0.0.1]"


@each_etcd_version
@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mtls"])
def test_everything_works_over_tls(cluster_factory: ClusterFactory, pki: Pki, mutual: bool) -> None:
    cluster = cluster_factory(tls=pki.tls(client_auth=mutual))
    material: dict[str, Any] = {"cert": pki.client.cert, "key": pki.client.key} if mutual else {}
    with EtcdClient(ConnectionOptions(cluster.client_urls, cacert=pki.ca, **material)) as client:
        assert not [one for one in client.statuses() if isinstance(one, EndpointFailure)]
        url = client.endpoints[0]
        client.linearizable_read(url)
        assert len(client.topology().members) == 3
        check = TrailerCheck()
        with client.snapshot(url, StreamLimits()) as pieces:
            for piece in pieces:
                check.update(piece)
        assert check.finish()[0] > 0


@pytest.fixture(scope="module")
def mutual_tls(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[LocalCluster]:
    yield from one_member(tmp_path_factory.mktemp("mtls"), pki, healthy=True)


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[LocalCluster]:
    """Serves with a certificate that has expired."""
    stale = replace(pki, server=pki.expired_server)
    yield from one_member(tmp_path_factory.mktemp("expired"), stale, healthy=False)


def one_member(base: Path, pki: Pki, *, healthy: bool) -> Iterator[LocalCluster]:
    try:
        etcd = default_programs().etcd
    except Unavailable as e:
        pytest.skip(str(e))
    cluster = LocalCluster(etcd, base, names=("alone",), tls=pki.tls(), unsafe_no_fsync=True)
    try:
        cluster.start_all()
        if healthy:
            cluster.wait_healthy()
        else:
            wait_until_listening(cluster)
        yield cluster
    finally:
        cluster.close()


def wait_until_listening(cluster: LocalCluster) -> None:
    port = int(cluster.client_urls[0].rpartition(":")[2])
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, cluster.log_path("alone").read_text()[-2000:]
            time.sleep(0.05)
        else:
            return


def failure(url: str, **options: Any) -> EtcdUnreachable:
    with EtcdClient(ConnectionOptions((url,), **options)) as client:
        with pytest.raises(EtcdUnreachable) as raised:
            client.topology()
        (status,) = client.statuses()
    assert isinstance(status, EndpointFailure)
    assert status.error.message == raised.value.message
    assert raised.value.message.startswith(f"{url}: ")
    assert "\n" not in raised.value.message + raised.value.hint
    return raised.value


def test_a_wrong_ca(mutual_tls: LocalCluster, pki: Pki) -> None:
    error = failure(mutual_tls.client_urls[0], cacert=pki.other_ca, cert=pki.client.cert, key=pki.client.key)
    assert "the server's certificate is not trusted" in error.message
    assert "--cacert" in error.hint


def test_no_ca_means_the_systems(mutual_tls: LocalCluster, pki: Pki) -> None:
    error = failure(mutual_tls.client_urls[0], cert=pki.client.cert, key=pki.client.key)
    assert "the server's certificate is not trusted" in error.message


def test_an_expired_server_certificate(expired: LocalCluster, pki: Pki) -> None:
    error = failure(expired.client_urls[0], cacert=pki.ca, cert=pki.client.cert, key=pki.client.key)
    assert error.message.endswith("the server's certificate has expired")
    assert "renew" in error.hint


def test_another_host_name_needs_the_override(mutual_tls: LocalCluster, pki: Pki) -> None:
    url = mutual_tls.client_urls[0].replace("127.0.0.1", OTHER_SPELLING)
    material: dict[str, Any] = {"cacert": pki.ca, "cert": pki.client.cert, "key": pki.client.key}
    error = failure(url, **material)
    assert "the server's certificate is for another name" in error.message
    assert "--server-name" in error.hint
    with EtcdClient(ConnectionOptions((url,), server_name="localhost", **material)) as client:
        assert client.topology().members


def test_a_wrong_override(mutual_tls: LocalCluster, pki: Pki) -> None:
    error = failure(
        mutual_tls.client_urls[0],
        cacert=pki.ca,
        cert=pki.client.cert,
        key=pki.client.key,
        server_name="etcd.example.com",
    )
    assert "the server's certificate is for another name" in error.message


def test_a_missing_client_certificate(mutual_tls: LocalCluster, pki: Pki) -> None:
    error = failure(mutual_tls.client_urls[0], cacert=pki.ca)
    assert error.message.endswith("etcd requires a client certificate")
    assert "--cert and --key" in error.hint


@pytest.mark.parametrize("whose", ["stranger", "expired_client"])
def test_a_client_certificate_that_etcd_does_not_accept(
    mutual_tls: LocalCluster, pki: Pki, whose: str
) -> None:
    pair = getattr(pki, whose)
    error = failure(mutual_tls.client_urls[0], cacert=pki.ca, cert=pair.cert, key=pair.key)
    assert "etcd rejects the client certificate" in error.message
    assert "--cert and --key" in error.hint


def test_http_to_a_server_that_wants_tls(mutual_tls: LocalCluster) -> None:
    error = failure(mutual_tls.client_urls[0].replace("https", "http"))
    assert "does not speak plain HTTP/2" in error.message
    assert "https://" in error.hint


def test_https_to_a_server_that_speaks_plain(shared_cluster: LocalCluster, pki: Pki) -> None:
    error = failure(shared_cluster.client_urls[0].replace("http", "https"), cacert=pki.ca)
    assert error.message.endswith("the server does not answer in TLS")
    assert "http://" in error.hint


def test_a_failed_snapshot_says_why_too(mutual_tls: LocalCluster, pki: Pki) -> None:
    with (
        EtcdClient(ConnectionOptions(mutual_tls.client_urls, cacert=pki.ca)) as client,
        client.snapshot(mutual_tls.client_urls[0], StreamLimits()) as pieces,
        pytest.raises(EtcdUnreachable, match="etcd requires a client certificate"),
    ):
        list(pieces)
