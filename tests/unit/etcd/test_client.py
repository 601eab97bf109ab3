from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from etcdguard.errors import ConfigError
from etcdguard.etcd.client import EtcdClient, prefix_end
from etcdguard.etcd.connection import ConnectionOptions, Tls, parse_endpoint
from tests.support.certs import Pki


@pytest.mark.parametrize(
    ("text", "tls", "url", "netloc"),
    [
        ("127.0.0.1:2379", False, "http://127.0.0.1:2379", "127.0.0.1:2379"),
        ("127.0.0.1:2379", True, "https://127.0.0.1:2379", "127.0.0.1:2379"),
        ("http://127.0.0.1:2379", True, "http://127.0.0.1:2379", "127.0.0.1:2379"),
        ("https://Etcd.Example.com:2379/", False, "https://etcd.example.com:2379", "etcd.example.com:2379"),
        ("[::1]:2379", False, "http://[::1]:2379", "[::1]:2379"),
        (" https://[2001:db8::1]:1 ", False, "https://[2001:db8::1]:1", "[2001:db8::1]:1"),
        ("localhost:2379", False, "http://localhost:2379", "localhost:2379"),
    ],
)
def test_endpoints_are_read_as_etcdctl_reads_them(text: str, tls: bool, url: str, netloc: str) -> None:
    address = parse_endpoint(text, tls=tls)
    assert (str(address), address.netloc) == (url, netloc)
    assert parse_endpoint(url, tls=not tls) == address


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "host is missing"),
        ("127.0.0.1", "port is missing"),
        ("https://127.0.0.1", "port is missing"),
        ("127.0.0.1:0", "port is missing"),
        ("127.0.0.1:66000", "(?i)port"),
        ("::1:2379", ""),
        ("[::1", ""),
        (":2379", "host is missing"),
        ("unix:///run/etcd.sock", "neither http nor https"),
        ("https://root:hunter2@host:2379", "more than"),
        ("https://host:2379/v3", "more than"),
    ],
)
def test_endpoints_that_cannot_work_are_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why or None) as raised:
        parse_endpoint(text, tls=False)
    assert raised.value.hint == "write it as https://host:2379"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"endpoints": ()}, "no etcd endpoint"),
        ({"endpoints": ("host",)}, "port is missing"),
        ({"cert": Path("c.pem")}, "client cert is configured without its key"),
        ({"key": Path("k.pem")}, "client key is configured without its cert"),
        ({"user": "root"}, "user is configured without its password"),
        ({"password": SecretStr("hunter2")}, "password is configured without its user"),
    ],
)
def test_options_that_cannot_work_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        ConnectionOptions(**{"endpoints": ("localhost:2379",)} | changes)


def test_a_password_is_never_shown() -> None:
    options = ConnectionOptions(("localhost:2379",), user="root", password=SecretStr("hunter2"))
    assert "hunter2" not in f"{options!r} {options}"


def test_endpoints_are_canonical_and_each_once() -> None:
    options = ConnectionOptions(("localhost:2379", "http://LOCALHOST:2379/", "localhost:2380"))
    with EtcdClient(options) as client:
        assert client.endpoints == ("http://localhost:2379", "http://localhost:2380")


def options(**material: Path) -> ConnectionOptions:
    return ConnectionOptions(("https://localhost:2379",), **material)  # type: ignore[arg-type]


def test_sound_material_is_accepted(pki: Pki) -> None:
    Tls(options(cacert=pki.ca, cert=pki.client.cert, key=pki.client.key))
    Tls(options())  # the system's authorities


@pytest.mark.parametrize(
    ("wrong", "why", "hint"),
    [
        ("absent", "cannot be read: No such file", "check --cacert"),
        ("no certificate", "holds no certificate", "--cacert"),
        ("other key", "not a certificate and its key", "--cert and --key"),
        ("locked key", "protected by a passphrase", "without one"),
    ],
)
def test_material_that_cannot_work_is_refused(
    pki: Pki, tmp_path: Path, wrong: str, why: str, hint: str
) -> None:
    material = {"cacert": pki.ca, "cert": pki.client.cert, "key": pki.client.key}
    if wrong == "absent":
        material["cacert"] = tmp_path / "absent.pem"
    elif wrong == "no certificate":
        material["cacert"] = pki.client.key
    elif wrong == "other key":
        material["key"] = pki.server.key
    else:
        material["key"] = tmp_path / "locked.key"
        material["key"].write_bytes(locked(pki.client.key))
    with pytest.raises(ConfigError, match=why) as raised:
        Tls(options(**material))
    assert hint in raised.value.hint


def locked(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return serialization.load_pem_private_key(key.read_bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"/registry/", b"/registry0"),
        (b"a\xff\xff", b"b"),
        (b"\xff", b"\0"),
        (b"", b"\0"),
    ],
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert prefix_end(prefix) == end
