"""Driving the push-style age classes from whole byte strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from etcdguard.crypto.age import Decryptor, Encryptor
from etcdguard.crypto.recipients import Identity, Recipient

__all__ = ["cut_every", "decrypt", "decrypt_into", "encrypt"]


def cut_every(data: bytes, size: int) -> Iterator[bytes]:
    """``data`` in pieces of ``size`` bytes."""
    return (data[start : start + size] for start in range(0, len(data), size))


def encrypt(data: bytes, recipients: Sequence[Recipient]) -> bytes:
    """A complete age file."""
    encryptor = Encryptor(recipients)
    return encryptor.start() + encryptor.update(data) + encryptor.finish()


def decrypt_into(
    released: bytearray,
    file: bytes,
    identities: Sequence[Identity],
    *,
    piece: int = 100_000,
    armored: bool | None = None,
) -> None:
    """Decrypt ``file``, adding to ``released`` whatever comes out before the end or an error."""
    decryptor = Decryptor(identities, armored=armored)
    for part in cut_every(file, piece):
        released += decryptor.update(part)
    released += decryptor.finish()


def decrypt(file: bytes, identities: Sequence[Identity]) -> bytes:
    """The plaintext of a complete age file."""
    released = bytearray()
    decrypt_into(released, file, identities)
    return bytes(released)
