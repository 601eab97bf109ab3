"""A store in memory, with the full semantics of the seam: for tests and for simulating crashes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone

from etcdguard.errors import ObjectExists, ObjectNotFound, RepositoryError
from etcdguard.storage.arguments import (
    PIECE_BYTES,
    check_key,
    check_part_number,
    check_parts,
    check_prefix,
    check_range,
)
from etcdguard.storage.base import Lock, ObjectInfo, StaleUpload

__all__ = ["MemoryMultipart", "MemoryStore"]

_EPOCH = datetime.fromtimestamp(0, timezone.utc)


class MemoryStore:
    """Keys and bytes in a dict behind a lock. ``now`` dates uploads; without it they date from 1970."""

    def __init__(self, name: str, *, now: Callable[[], datetime] = lambda: _EPOCH) -> None:
        self.name = name
        self._now = now
        self._lock = threading.RLock()
        self._objects: dict[str, bytes] = {}
        self._written: dict[str, datetime] = {}
        self.locks: dict[str, Lock] = {}
        """Object locks, by key: set by tests."""
        self._uploads: dict[str, MemoryMultipart] = {}
        self._begun = 0

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """See ObjectStore."""
        check_key(key)
        with self._lock:
            if create_only and key in self._objects:
                raise ObjectExists(
                    f"repository {self.name}: {key} already exists",
                    hint="another writer was first; nothing was changed",
                )
            self._write(key, bytes(data))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ObjectStore."""
        check_range(offset, length)
        data = self._read(key)
        end = len(data) if length is None else min(offset + length, len(data))
        for start in range(offset, end, PIECE_BYTES):
            yield data[start : min(start + PIECE_BYTES, end)]

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        size = len(self._read(key))
        return ObjectInfo(key, size, self._written[key])

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        check_prefix(prefix)
        with self._lock:
            found = [
                ObjectInfo(key, len(data), self._written[key])
                for key, data in self._objects.items()
                if key.startswith(prefix)
            ]
        return iter(sorted(found, key=lambda info: info.key))

    def folders(self, prefix: str) -> Sequence[str]:
        """See Surveyor."""
        rests = (info.key[len(prefix) :] for info in self.list(prefix))
        return sorted({rest.partition("/")[0] for rest in rests if "/" in rest})

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(key)
        with self._lock:
            self._objects.pop(key, None)

    def multipart(self, key: str) -> MemoryMultipart:
        """See ObjectStore."""
        check_key(key)
        with self._lock:
            self._begun += 1
            upload = StaleUpload(key, str(self._begun), self._now())
            writer = self._uploads[upload.upload_id] = MemoryMultipart(self, upload)
        return writer

    def stale_uploads(self, prefix: str) -> Sequence[StaleUpload]:
        """See UploadJanitor."""
        check_prefix(prefix)
        with self._lock:
            return [w.upload for w in self._uploads.values() if w.upload.key.startswith(prefix)]

    def abort_upload(self, upload: StaleUpload) -> None:
        """See UploadJanitor."""
        with self._lock:
            self._uploads.pop(upload.upload_id, None)

    def lock(self, key: str) -> Lock | None:
        """See Custodian."""
        self._read(key)
        return self.locks.get(key)

    def time(self) -> datetime | None:
        """See Custodian."""
        return None

    def _write(self, key: str, data: bytes) -> None:
        self._objects[key] = data
        self._written[key] = self._now()

    def _read(self, key: str) -> bytes:
        check_key(key)
        with self._lock:
            try:
                return self._objects[key]
            except KeyError as e:
                raise ObjectNotFound(
                    f"repository {self.name}: {key} does not exist", hint="run 'etcdguard list'"
                ) from e

    # The writer's half: one lock guards objects and uploads.

    def _store_part(self, writer: MemoryMultipart, number: int, data: bytes) -> None:
        with self._lock:
            self._open(writer).parts[number] = data

    def _assemble(self, writer: MemoryMultipart) -> ObjectInfo:
        with self._lock:
            parts = self._open(writer).parts
            check_parts(parts)
            data = b"".join(parts[number] for number in sorted(parts))
            self._write(writer.upload.key, data)
            del self._uploads[writer.upload.upload_id]
        return ObjectInfo(writer.upload.key, len(data))

    def _open(self, writer: MemoryMultipart) -> MemoryMultipart:
        if writer.upload.upload_id not in self._uploads:
            raise RepositoryError(
                f"repository {self.name}: the upload of {writer.upload.key} is gone",
                hint="it was aborted; start the backup again",
            )
        return writer


class MemoryMultipart:
    """See MultipartWriter."""

    min_part_size = 1

    def __init__(self, store: MemoryStore, upload: StaleUpload) -> None:
        self.upload = upload
        self.parts: dict[int, bytes] = {}
        self._store = store
        self._done: ObjectInfo | None = None

    def write_part(self, number: int, data: bytes) -> None:
        """See MultipartWriter."""
        self._store._store_part(self, check_part_number(number), bytes(data))

    def complete(self) -> ObjectInfo:
        """See MultipartWriter."""
        if self._done is None:
            self._done = self._store._assemble(self)
        return self._done

    def abort(self) -> None:
        """See MultipartWriter."""
        self._store.abort_upload(self.upload)
