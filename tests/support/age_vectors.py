"""The official age test vectors (C2SP/CCTV): header lines, an empty line, then the age file itself."""

from __future__ import annotations

import base64
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

__all__ = ["AgeVector", "load_vector", "vector_paths", "vectors_directory"]

_SEALED_CHUNK = 64 * 1024 + 16


@dataclass(frozen=True)
class AgeVector:
    """One file of the kit and what should become of it."""

    name: str
    expect: str
    payload_sha256: str
    file_key: bytes
    identities: tuple[str, ...]
    passphrases: tuple[str, ...]
    armored: bool
    file: bytes

    def binary(self) -> bytes:
        """The file without its armor (of a vector whose armor is well formed)."""
        if not self.armored:
            return self.file
        return base64.b64decode(
            b"".join(line for line in self.file.splitlines() if not line.startswith(b"-----"))
        )

    def header_and_payload(self) -> tuple[bytes, bytes]:
        """Everything up to the MAC line's end, and everything behind it, nonce included."""
        binary = self.binary()
        match = re.search(rb"\n---[^\n]*\n", binary)
        if match is None:
            raise ValueError(f"{self.name} has no complete header")
        return binary[: match.end()], binary[match.end() :]

    def readable_plaintext(self) -> bytes:
        """What a reader that looks at one chunk at a time could open before it meets the vector's damage."""
        _, payload = self.header_and_payload()
        nonce, sealed = payload[:16], payload[16:]
        cipher = ChaCha20Poly1305(HKDF(SHA256(), 32, nonce, b"payload").derive(self.file_key))
        plaintext = b""
        for number, start in enumerate(range(0, len(sealed), _SEALED_CHUNK)):
            chunk = sealed[start : start + _SEALED_CHUNK]
            counter = number.to_bytes(11, "big")
            if len(chunk) == _SEALED_CHUNK:
                try:
                    plaintext += cipher.decrypt(counter + b"\x00", chunk, None)
                except InvalidTag:
                    pass
                else:
                    continue
            try:
                return plaintext + cipher.decrypt(counter + b"\x01", chunk, None)
            except InvalidTag:
                return plaintext
        return plaintext


def vectors_directory() -> Path:
    """Where the kit is: $ETCDGUARD_AGE_VECTORS, or ``shared/vectors/age`` beside the checkout."""
    configured = os.environ.get("ETCDGUARD_AGE_VECTORS")
    return Path(configured) if configured else Path(__file__).parents[3] / "shared" / "vectors" / "age"


def vector_paths() -> list[Path]:
    """Every vector, by name; empty where the kit is missing (a test of its own fails for that)."""
    directory = vectors_directory()
    return sorted(directory.iterdir()) if directory.is_dir() else []


def load_vector(path: Path) -> AgeVector:
    """Parse one vector."""
    head, _, file = path.read_bytes().partition(b"\n\n")
    fields: dict[str, list[str]] = {}
    for line in head.decode("utf-8").splitlines():
        key, _, value = line.partition(": ")
        fields.setdefault(key, []).append(value)
    compression = fields.get("compressed", ["none"])
    if compression not in (["none"], ["zlib"]):
        raise ValueError(f"{path.name} is compressed in an unknown way: {compression}")
    return AgeVector(
        name=path.name,
        expect=fields["expect"][0],
        payload_sha256=fields.get("payload", [""])[0],
        file_key=bytes.fromhex(fields.get("file key", [""])[0]),
        identities=tuple(fields.get("identity", [])),
        passphrases=tuple(fields.get("passphrase", [])),
        armored=fields.get("armored") == ["yes"],
        file=zlib.decompress(file) if compression == ["zlib"] else file,
    )
