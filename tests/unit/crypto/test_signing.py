from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from etcdguard.crypto.signing import PublicKey, SigningKey, TrustedSigners
from etcdguard.errors import ConfigError, WrongKey

_key = SigningKey.generate()


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_signatures() -> None:
    signature = _key.sign(b"manifest")
    assert len(signature) == 64
    assert _key.public.verify(b"manifest", signature)
    assert not _key.public.verify(b"manifest ", signature)
    assert not SigningKey.generate().public.verify(b"manifest", signature)
    for wrong in (b"", signature[:-1], signature + b"\x00", bytes(64)):
        assert not _key.public.verify(b"manifest", wrong)


def test_any_flipped_bit_of_a_signature_is_refused() -> None:
    signature = _key.sign(b"manifest")
    for bit in range(512):
        flipped = bytearray(signature)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not _key.public.verify(b"manifest", bytes(flipped))


def test_files_round_trip(tmp_path: Path) -> None:
    private = _write(tmp_path / "signer.pem", _key.private_pem())
    public = _write(tmp_path / "signer.pub.pem", _key.public.pem())
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert PublicKey.load(public).verify(b"data", SigningKey.load(private).sign(b"data"))
    assert SigningKey.load(private).public.pem() == _key.public.pem()


def test_fingerprint_and_repr() -> None:
    body = b"".join(_key.public.pem().splitlines()[1:-1])
    der = base64.b64decode(body)
    assert _key.public.fingerprint == "sha256:" + hashlib.sha256(der).hexdigest()[:32]
    assert _key.public.fingerprint in repr(_key)
    assert _key.public.fingerprint in repr(_key.public)
    secret = b"".join(_key.private_pem().splitlines()[1:-1]).decode()
    assert secret[-20:] not in repr(_key)


def test_trusted_signers() -> None:
    other, stranger = SigningKey.generate(), SigningKey.generate()
    trusted = TrustedSigners([_key.public, other.public])
    assert trusted.check(b"data", _key.sign(b"data")) == _key.public.fingerprint
    assert trusted.check(b"data", other.sign(b"data")) == other.public.fingerprint
    assert trusted.check(b"data", stranger.sign(b"data")) is None
    assert trusted.check(b"data", _key.sign(b"datum")) is None
    assert trusted.check(b"data", b"") is None
    assert TrustedSigners([]).check(b"data", _key.sign(b"data")) is None


def _private_pem(key: Ed25519PrivateKey | Ed448PrivateKey, passphrase: bytes | None = None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secretsecret",
        _key.public.pem(),
        _key.private_pem().replace(b"M", b"N", 2),
        _key.private_pem()[:40],
        _private_pem(Ed448PrivateKey.generate()),
        _private_pem(Ed25519PrivateKey.generate(), b"passphrase"),
    ],
    # Random keys in the tests' names would differ between pytest-xdist's workers.
    ids=["empty", "garbage", "public", "broken", "truncated", "another algorithm", "encrypted"],
)
def test_unusable_signing_keys(tmp_path: Path, content: bytes) -> None:
    path = _write(tmp_path / "key", content)
    with pytest.raises(ConfigError, match="private Ed25519 key") as caught:
        SigningKey.load(path)
    assert "secretsecret" not in str(caught.value) + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        _key.private_pem(),
        _key.public.pem()[:40],
        Ed448PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "garbage", "private", "truncated", "another algorithm"],
)
def test_unusable_public_keys(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigError, match="public Ed25519 key"):
        PublicKey.load(_write(tmp_path / "key", content))


def test_unreadable_files_are_missing_keys(tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match="signing key"):
        SigningKey.load(tmp_path / "absent")
    with pytest.raises(WrongKey, match="public key"):
        PublicKey.load(tmp_path / "absent")
