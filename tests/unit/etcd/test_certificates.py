"""Certificates that cannot be read, or are not there, are said as what they are."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from etcdguard.errors import ConfigError, EtcdUnreachable
from etcdguard.etcd import connection
from etcdguard.etcd.certificates import presented_certificate, read_certificates
from etcdguard.etcd.connection import ConnectionOptions, Tls, parse_endpoint
from tests.support.certs import Pki

TIMEOUT = 60.0


def test_every_certificate_of_a_file(pki: Pki, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pki.ca.read_bytes() + pki.client.cert.read_bytes())
    found = read_certificates(both)
    assert found == [*read_certificates(pki.ca), *read_certificates(pki.client.cert)]
    assert len(found) == 2
    assert all(one.not_before < one.not_after for one in found)


def test_a_file_without_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pem cannot be read: No such file"):
        read_certificates(tmp_path / "absent.pem")
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    with pytest.raises(ConfigError, match=r"key\.pem holds no certificate"):
        read_certificates(tmp_path / "key.pem")


def test_what_a_server_shows_though_it_has_expired(pki: Pki) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.expired_server.cert, pki.expired_server.key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            plain, _ = server.accept()
            with suppress(OSError), context.wrap_socket(plain, server_side=True) as encrypted:
                encrypted.recv(1)  # until the other side has gone

        thread = threading.Thread(target=serve)
        thread.start()
        address = parse_endpoint(f"https://127.0.0.1:{server.getsockname()[1]}", tls=True)
        shown = presented_certificate(address, Tls(ConnectionOptions((str(address),))), TIMEOUT)
        thread.join(TIMEOUT)
    assert [shown] == read_certificates(pki.expired_server.cert)


def test_where_nobody_listens_there_is_nothing_to_see() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = parse_endpoint(f"https://127.0.0.1:{taken.getsockname()[1]}", tls=True)
        with pytest.raises(EtcdUnreachable, match="its certificate cannot be seen: Connection refused"):
            presented_certificate(address, Tls(ConnectionOptions((str(address),))), TIMEOUT)


def test_a_system_without_authorities_is_no_fault_before_they_are_needed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connection, "_SYSTEM_ROOTS", (str(tmp_path / "absent"),))
    context = Tls(ConnectionOptions(("https://127.0.0.1:1",))).http_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
