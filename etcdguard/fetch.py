"""From a manifest to the plaintext snapshot: fetch, decrypt, decompress, proving every digest on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, cast

import zstandard

from etcdguard.catalog.layout import Layout
from etcdguard.crypto.age import Decryptor
from etcdguard.crypto.recipients import Identity
from etcdguard.errors import Corruption, WrongKey
from etcdguard.etcd.stream import TRAILER_BYTES, TrailerCheck
from etcdguard.model import Manifest, ObjectEntry
from etcdguard.storage.base import ObjectStore

__all__ = ["check_stored", "open_plain"]

_PIECE = 1024 * 1024
_HINT = (
    "restore from another backup or repository; 'etcdguard verify --all --level data' shows which are sound"
)


def _at_once(_count: int) -> None:
    """Nobody holds the reading up."""


def check_stored(
    store: ObjectStore, layout: Layout, manifest: Manifest, *, pace: Callable[[int], object] = _at_once
) -> None:
    """Prove without any key that the objects are what was stored; raises Corruption or the store's errors."""
    for entry in manifest.objects:
        for _ in _stored(store, layout, entry, pace):
            pass


def open_plain(
    store: ObjectStore,
    layout: Layout,
    manifest: Manifest,
    identities: Sequence[Identity],
    *,
    hashing: bool = True,
    pace: Callable[[int], object] = _at_once,
) -> Iterator[bytes]:
    """Yield the snapshot with its 32-byte trailer in pieces of about 1 MiB.

    Every piece has passed age's authentication, but only a run to the end has proven the whole: stored size
    and sha256, zstd's checksum, the trailer, and the trailer against the manifest. Whoever stops early or
    meets an exception must throw away what it has.

    ``hashing=False`` leaves one proof to the reader: that the database has the sha256 in its trailer, which
    is the manifest's. etcd's own restore does that; doing it twice is a third of the time spent here.

    ``pace`` is told of every stored piece by its size, and may take its time or raise.

    Raises WrongKey, Corruption, or the store's errors.
    """
    trailer = TrailerCheck(hashing=hashing)
    room = manifest.snapshot.db_bytes + TRAILER_BYTES
    for piece in _decompressed(_decrypted(store, layout, manifest, identities, pace), manifest.id):
        room -= len(piece)
        if room < 0:  # before somebody's disk is full of it
            raise Corruption(f"backup {manifest.id} expands beyond its manifest's size", hint=_HINT)
        trailer.update(piece)
        yield piece
    db_bytes, digest = trailer.finish()
    if digest != manifest.snapshot.sha256 or db_bytes != manifest.snapshot.db_bytes:
        raise Corruption(f"backup {manifest.id} holds another snapshot than its manifest says", hint=_HINT)


def _decrypted(
    store: ObjectStore,
    layout: Layout,
    manifest: Manifest,
    identities: Sequence[Identity],
    pace: Callable[[int], object],
) -> Iterator[bytes]:
    stored = (piece for entry in manifest.objects for piece in _stored(store, layout, entry, pace))
    if manifest.encryption is None:
        yield from stored
        return
    if not identities:
        raise WrongKey(
            f"backup {manifest.id} is encrypted and no identity is configured",
            hint="set encryption.identity_file or passphrase_file, or pass --identity FILE",
        )
    decryptor = Decryptor(identities)
    for piece in stored:
        yield decryptor.update(piece)
    yield decryptor.finish()


def _stored(
    store: ObjectStore, layout: Layout, entry: ObjectEntry, pace: Callable[[int], object]
) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    for piece in store.get(layout.absolute(entry.key)):
        pace(len(piece))
        digest.update(piece)
        size += len(piece)
        if size > entry.bytes:
            break
        yield piece
    if size != entry.bytes or digest.hexdigest() != entry.sha256:
        raise Corruption(f"{entry.key} is not what was stored (sha256 or size differs)", hint=_HINT)


def _decompressed(compressed: Iterator[bytes], backup_id: str) -> Iterator[bytes]:
    source = _Source(compressed)
    reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], source))
    try:
        # Reading by the piece bounds memory even for a frame that expands a millionfold.
        while piece := reader.read(_PIECE):
            yield piece
    except zstandard.ZstdError as error:
        raise Corruption(f"backup {backup_id} does not decompress", hint=_HINT) from error
    # What stands behind the frame must be nothing; getting there also runs the last checks below us.
    if source.unread() or any(compressed):
        raise Corruption(f"backup {backup_id} goes on after its compressed end", hint=_HINT)


class _Source:
    """An iterator of pieces in the shape of a file, as the decompressor reads it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; empty only at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def unread(self) -> bool:
        """Whether bytes were taken from the iterator and not yet handed on."""
        return bool(self._rest)
