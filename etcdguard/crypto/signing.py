"""Ed25519 signatures over manifests, with keys in the PEM forms that stock ``openssl`` reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from etcdguard.crypto.keyfile import read_key_file
from etcdguard.crypto.primitives import fingerprint
from etcdguard.errors import ConfigError

__all__ = ["PublicKey", "SigningKey", "TrustedSigners"]


class PublicKey:
    """What a signature is checked with."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        """Read a PEM SubjectPublicKeyInfo file; WrongKey if unreadable, ConfigError if not that."""
        try:
            key = load_pem_public_key(read_key_file(path, "public key"))
        except (ValueError, UnsupportedAlgorithm) as e:
            raise _not_a_key(path, "a public") from e
        if not isinstance(key, Ed25519PublicKey):
            raise _not_a_key(path, "a public")
        return cls(key)

    def __repr__(self) -> str:
        return f"PublicKey({self.fingerprint!r})"

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key's DER SubjectPublicKeyInfo."""
        der = self._key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return fingerprint(der)

    def pem(self) -> bytes:
        """PEM SubjectPublicKeyInfo."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verify(self, data: bytes, signature: bytes) -> bool:
        """Whether ``signature`` (raw, 64 bytes) was made over exactly ``data`` with the private half."""
        try:
            self._key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """What manifests are signed with. Only `private_pem` gives it away."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the system's random source."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """Read an unencrypted PEM PKCS#8 file; WrongKey if unreadable, ConfigError if not that."""
        try:
            key = load_pem_private_key(read_key_file(path, "signing key"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as e:
            raise _not_a_key(path, "an unencrypted private") from e
        if not isinstance(key, Ed25519PrivateKey):
            raise _not_a_key(path, "an unencrypted private")
        return cls(key)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.fingerprint!r})"

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(self._key.public_key())

    def private_pem(self) -> bytes:
        """Unencrypted PEM PKCS#8: for a file of mode 0600 and nothing else."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """The raw 64-byte signature over ``data``."""
        return self._key.sign(data)


class TrustedSigners:
    """The keys whose signature on a manifest counts."""

    def __init__(self, keys: Sequence[PublicKey]) -> None:
        self._keys = tuple(keys)

    def check(self, data: bytes, signature: bytes) -> str | None:
        """The fingerprint of the trusted key that signed ``data``, or None if none of them did."""
        return next((key.fingerprint for key in self._keys if key.verify(data, signature)), None)


def _not_a_key(path: Path, kind: str) -> ConfigError:
    return ConfigError(
        f"{path} is not {kind} Ed25519 key in PEM form",
        hint="make one by `openssl genpkey -algorithm ed25519`, its public half by `openssl pkey -pubout`",
    )
