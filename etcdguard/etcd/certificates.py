"""Certificates as files hold them and as endpoints show them, whether they are valid or not."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from etcdguard.errors import ConfigError, EtcdUnreachable
from etcdguard.etcd.connection import Address, Tls

__all__ = ["Certificate", "presented_certificate", "read_certificates"]


@dataclass(frozen=True)
class Certificate:
    """When a certificate is valid; times are aware, in UTC."""

    subject: str
    not_before: datetime
    not_after: datetime


def read_certificates(path: Path) -> list[Certificate]:
    """Every certificate of a PEM file. Raises ConfigError where there is none to be read."""
    try:
        return [_certificate(one) for one in x509.load_pem_x509_certificates(path.read_bytes())]
    except OSError as e:
        raise ConfigError(f"{path} cannot be read: {e.strerror}", hint="check the path and its mode") from e
    except ValueError as e:
        raise ConfigError(f"{path} holds no certificate", hint="give a PEM file") from e


def presented_certificate(address: Address, tls: Tls, timeout: float) -> Certificate:
    """What the server there shows, trusted or not. Raises EtcdUnreachable."""
    context = tls.http_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # an expired one is what we are here for; nothing is sent to it
    try:
        with (
            socket.create_connection((address.host, address.port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=tls.server_name or address.host) as encrypted,
        ):
            shown = encrypted.getpeercert(binary_form=True)
    except OSError as e:
        why = getattr(e, "reason", None) or e.strerror or str(e) or type(e).__name__
        raise EtcdUnreachable(
            f"{address}: its certificate cannot be seen: {why}", hint="check that etcd runs there"
        ) from e
    try:
        return _certificate(x509.load_der_x509_certificate(shown or b""))
    except ValueError as e:
        raise EtcdUnreachable(
            f"{address}: it shows no certificate that can be read", hint="check etcd's --cert-file"
        ) from e


def _certificate(one: x509.Certificate) -> Certificate:
    return Certificate(one.subject.rfc4514_string(), one.not_valid_before_utc, one.not_valid_after_utc)
