"""STREAM, the payload of an age file: 64 KiB chunks, each sealed with its number and whether it is the last.

Both directions are push-style and hold at most one chunk. Because only the end of the input tells which chunk
is the last, a full chunk is handled when the byte after it arrives, or in ``finish``.
"""

from __future__ import annotations

from collections.abc import Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from etcdguard.crypto.errors import PayloadInvalid
from etcdguard.crypto.primitives import hkdf_sha256

__all__ = ["CHUNK_BYTES", "NONCE_BYTES", "TAG_BYTES", "StreamReader", "StreamWriter"]

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
NONCE_BYTES = 16


class StreamWriter:
    """Seals plaintext. ``finish`` is called once, last."""

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        self._cipher = _payload_cipher(file_key, nonce)
        self._chunks = _Chunks(CHUNK_BYTES)

    def update(self, data: bytes | memoryview) -> bytes:
        """Take plaintext, return what became ready of the ciphertext."""
        return b"".join(
            self._cipher.encrypt(_chunk_nonce(number, final=False), chunk, None)
            for number, chunk in self._chunks.push(data)
        )

    def finish(self) -> bytes:
        """The last chunk, full or not; empty only if there was no plaintext at all."""
        number, chunk = self._chunks.last()
        return self._cipher.encrypt(_chunk_nonce(number, final=True), chunk, None)


class StreamReader:
    """Opens ciphertext. What it returns has been authenticated; after an error it must not be used again."""

    def __init__(self, file_key: bytes, nonce: bytes) -> None:
        self._cipher = _payload_cipher(file_key, nonce)
        self._chunks = _Chunks(CHUNK_BYTES + TAG_BYTES)

    def update(self, data: bytes | memoryview) -> bytes:
        """Take ciphertext, return the plaintext of chunks known not to be the last; raises PayloadInvalid."""
        return b"".join(self._open(number, chunk, final=False) for number, chunk in self._chunks.push(data))

    def finish(self) -> bytes:
        """The plaintext of the last chunk; raises PayloadInvalid if the payload was cut short or altered."""
        number, chunk = self._chunks.last()
        plaintext = self._open(number, chunk, final=True)
        if number and not plaintext:
            raise PayloadInvalid("the encrypted payload ends in an empty chunk")
        return plaintext

    def _open(self, number: int, chunk: bytearray | memoryview, *, final: bool) -> bytes:
        try:
            return self._cipher.decrypt(_chunk_nonce(number, final=final), chunk, None)
        except InvalidTag as e:
            raise PayloadInvalid(
                f"chunk {number} of the encrypted payload was altered, moved or cut short"
            ) from e


class _Chunks:
    """Cuts pushed pieces into numbered chunks of ``size`` bytes, copying only what straddles two pieces."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._number = 0
        self._pending = bytearray()
        self._finished = False

    def push(self, data: bytes | memoryview) -> Iterator[tuple[int, bytearray | memoryview]]:
        """Yield the chunks that more bytes follow; each is valid only until the next is asked for."""
        self._refuse_reuse()
        view = memoryview(data)
        if self._pending:
            missing = self._size - len(self._pending)
            self._pending += view[:missing]
            view = view[missing:]
            if not view:
                return
            yield self._take_number(), self._pending
            self._pending.clear()
        while len(view) > self._size:
            yield self._take_number(), view[: self._size]
            view = view[self._size :]
        self._pending += view

    def last(self) -> tuple[int, bytearray]:
        """The final chunk."""
        self._refuse_reuse()
        self._finished = True
        return self._take_number(), self._pending

    def _take_number(self) -> int:
        number = self._number
        self._number += 1
        return number

    def _refuse_reuse(self) -> None:
        # A second final chunk would repeat a nonce under the same key.
        if self._finished:
            raise RuntimeError("the stream is finished")


def _payload_cipher(file_key: bytes, nonce: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(hkdf_sha256(file_key, salt=nonce, info=b"payload"))


def _chunk_nonce(number: int, *, final: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\x01" if final else b"\x00")
