"""A throwaway public key infrastructure for TLS tests."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from etcdguard.etcd.local import TlsFiles

__all__ = ["Authority", "KeyPair", "Pki", "make_pki"]

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, PEM."""

    cert: Path
    key: Path


@dataclass(frozen=True)
class Pki:
    """Certificates of ``ca``, all for 127.0.0.1 and localhost; ``stranger`` is a client of ``other_ca``."""

    ca: Path
    other_ca: Path
    server: KeyPair
    client: KeyPair
    expired_server: KeyPair
    expired_client: KeyPair
    stranger: KeyPair

    def tls(self, *, client_auth: bool = True) -> TlsFiles:
        """For a LocalCluster with sound certificates: mutual TLS, or server certificates only."""
        return TlsFiles(
            ca=self.ca,
            cert=self.server.cert,
            key=self.server.key,
            client_cert=self.client.cert,
            client_key=self.client.key,
            client_auth=client_auth,
        )


def make_pki(folder: Path) -> Pki:
    """Write a whole infrastructure into ``folder``."""
    ca = Authority(folder, "ca")
    other = Authority(folder, "other-ca")
    return Pki(
        ca=ca.path,
        other_ca=other.path,
        server=ca.issue("server"),
        client=ca.issue("client"),
        expired_server=ca.issue("expired-server", expired=True),
        expired_client=ca.issue("expired-client", expired=True),
        stranger=other.issue("stranger"),
    )


class Authority:
    """Issues certificates and writes them into ``folder``; its own, good for ``days``, is ``path``."""

    def __init__(self, folder: Path, name: str, *, days: float = 2) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(f"etcdguard test {name}")
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), expired=False, days=days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_CA_USAGE, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, addresses: Sequence[str] = (_LOOPBACK,), expired: bool = False, days: float = 2
    ) -> KeyPair:
        """A certificate for localhost and these addresses, good for serving and for calling, for ``days``."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName(
            [
                x509.DNSName("localhost"),
                *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
            ]
        )
        # Both usages: between peers the serving certificate also authenticates the caller.
        usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        certificate = (
            _builder(_name(name), self._name, key.public_key(), expired=expired, days=days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=False)
            .add_extension(usages, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        pair = KeyPair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return pair


_CA_USAGE = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    *,
    expired: bool,
    days: float,
) -> x509.CertificateBuilder:
    now = datetime.now(timezone.utc)
    end = now - timedelta(hours=1) if expired else now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )
