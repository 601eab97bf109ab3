"""Signatures and key files are those of stock `openssl`."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from etcdguard.crypto.signing import PublicKey, SigningKey
from tests.support.commands import command_path

_MANIFEST = b'{"format":"etcdguard/1"}\n'


def _openssl(*args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([command_path("openssl"), *args], capture_output=True, check=False, timeout=60)


def _verify(directory: Path) -> int:
    key, data, signature = (
        str(directory / name) for name in ("signer.pub.pem", "manifest.json", "manifest.json.sig")
    )
    return _openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", key, "-rawin", "-in", data, "-sigfile", signature
    ).returncode


def test_openssl_verifies_our_signature(tmp_path: Path) -> None:
    key = SigningKey.generate()
    (tmp_path / "signer.pub.pem").write_bytes(key.public.pem())
    (tmp_path / "manifest.json").write_bytes(_MANIFEST)
    (tmp_path / "manifest.json.sig").write_bytes(key.sign(_MANIFEST))
    assert _verify(tmp_path) == 0
    (tmp_path / "manifest.json").write_bytes(_MANIFEST + b" ")
    assert _verify(tmp_path) != 0


def test_we_verify_openssls_signature(tmp_path: Path) -> None:
    private, public, data, signature = (tmp_path / name for name in ("key", "public", "data", "signature"))
    data.write_bytes(_MANIFEST)
    assert _openssl("genpkey", "-algorithm", "ed25519", "-out", str(private)).returncode == 0
    assert _openssl("pkey", "-in", str(private), "-pubout", "-out", str(public)).returncode == 0
    signing = _openssl(
        "pkeyutl", "-sign", "-inkey", str(private), "-rawin", "-in", str(data), "-out", str(signature)
    )
    assert signing.returncode == 0, signing.stderr.decode()
    assert PublicKey.load(public).verify(_MANIFEST, signature.read_bytes())
    assert SigningKey.load(private).sign(_MANIFEST) == signature.read_bytes()


def test_openssl_shows_the_fingerprint(tmp_path: Path) -> None:
    key = SigningKey.generate()
    path = tmp_path / "signer.pub.pem"
    path.write_bytes(key.public.pem())
    der = _openssl("pkey", "-pubin", "-in", str(path), "-outform", "DER").stdout
    assert key.public.fingerprint == "sha256:" + hashlib.sha256(der).hexdigest()[:32]
