"""Plaintext snapshot in, stored bytes out: hash, index, compress, encrypt, in one pass and bounded memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import zstandard

from etcdguard.crypto.age import Encryptor
from etcdguard.crypto.recipients import Recipient
from etcdguard.etcd.page_index import PageIndex, SnapshotPages
from etcdguard.etcd.stream import TrailerCheck
from etcdguard.model import SnapshotFacts

__all__ = ["Sealed", "Sealer"]

_JOB_BYTES = 1 << 20
"""Of plaintext, for a thread of zstd's. Left alone it takes 2 MiB at level 1, which costs 4 MiB of memory."""


@dataclass(frozen=True)
class Sealed:
    """What went in (``facts``) and what came out, in bytes."""

    facts: SnapshotFacts
    pages: SnapshotPages
    stored_bytes: int
    stored_sha256: str


class Sealer:
    """Feed the snapshot stream with ``update``; ``finish`` proves it whole and closes the ciphertext.

    ``compression_threads`` 0 compresses within ``update``; a thread of its own lets hashing go on meanwhile.
    Without recipients the compressed bytes are stored as they are (``encryption: {disabled: true}``).
    Raises SnapshotFailed or Corruption when the stream was not a sound snapshot.
    """

    def __init__(
        self, out: IO[bytes], recipients: Sequence[Recipient], level: int, *, compression_threads: int = 0
    ) -> None:
        self._out = out
        self._trailer = TrailerCheck()
        self._index = PageIndex()
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level,
            write_checksum=True,  # lets stock tools notice damage
            threads=compression_threads,
            job_size=_JOB_BYTES if compression_threads else 0,
        )
        self._compress = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        self._encryptor = Encryptor(recipients) if recipients else None
        self._digest = hashlib.sha256()
        self._stored = 0
        if self._encryptor is not None:
            self._emit(self._encryptor.start())

    def update(self, piece: bytes) -> None:
        """Take the next bytes of the stream; pieces of about 1 MiB are quickest."""
        self._compressed(self._compress.compress(piece))
        self._trailer.update(piece)
        self._index.update(piece)

    def finish(self) -> Sealed:
        """Check trailer and pages, then end the stored object."""
        db_bytes, digest = self._trailer.finish()
        pages = self._index.finish(db_bytes)
        self._compressed(self._compress.flush())
        if self._encryptor is not None:
            self._emit(self._encryptor.finish())
        facts = SnapshotFacts(
            revision=pages.facts.revision,
            compact_revision=pages.facts.compact_revision,
            consistent_index=pages.facts.consistent_index,
            total_keys=pages.total_keys,
            db_bytes=db_bytes,
            sha256=digest,
        )
        return Sealed(facts, pages, self._stored, self._digest.hexdigest())

    def _compressed(self, data: bytes) -> None:
        if data:
            self._emit(data if self._encryptor is None else self._encryptor.update(data))

    def _emit(self, data: bytes) -> None:
        self._digest.update(data)
        self._stored += len(data)
        self._out.write(data)
