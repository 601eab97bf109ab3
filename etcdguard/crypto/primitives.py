"""The few cryptographic steps every part of age v1 shares."""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = [
    "FILE_KEY_BYTES",
    "WRAPPED_FILE_KEY_BYTES",
    "decode_base64",
    "encode_base64",
    "fingerprint",
    "hkdf_sha256",
    "unwrap_file_key",
    "wrap_file_key",
]

FILE_KEY_BYTES = 16
WRAPPED_FILE_KEY_BYTES = FILE_KEY_BYTES + 16

# A wrap key comes from a fresh share or salt and seals exactly one file key, so its nonce may be constant.
_WRAP_NONCE = bytes(12)


def hkdf_sha256(secret: bytes, *, salt: bytes, info: bytes) -> bytes:
    """Derive 32 bytes with HKDF-SHA256."""
    return HKDF(SHA256(), length=32, salt=salt, info=info).derive(secret)


def fingerprint(public_data: bytes) -> str:
    """``sha256:`` and the first 32 hex digits of the SHA-256: names a key in manifests and messages."""
    return "sha256:" + hashlib.sha256(public_data).hexdigest()[:32]


def wrap_file_key(wrap_key: bytes, file_key: bytes) -> bytes:
    """Seal a file key into the 32-byte body of a stanza."""
    return ChaCha20Poly1305(wrap_key).encrypt(_WRAP_NONCE, file_key, None)


def unwrap_file_key(wrap_key: bytes, body: bytes) -> bytes | None:
    """The file key inside a 32-byte body, or None when ``wrap_key`` is not the one that sealed it."""
    try:
        return ChaCha20Poly1305(wrap_key).decrypt(_WRAP_NONCE, body, None)
    except InvalidTag:
        return None


def encode_base64(data: bytes) -> str:
    """Standard base64 without padding, as age writes it."""
    return base64.b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64(text: str) -> bytes:
    """Decode unpadded base64; ValueError unless ``text`` is the one canonical encoding of its bytes."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    if encode_base64(data) != text:
        raise ValueError("base64 is padded or not canonical")
    return data
