"""One spooled object into one store, in parts, read once and checked against what was sealed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from pathlib import Path

from etcdguard.errors import Corruption, RepositoryError, SpoolFailed
from etcdguard.log import get_logger
from etcdguard.model import ObjectEntry
from etcdguard.progress import Progress
from etcdguard.storage.base import MultipartWriter, ObjectStore, UploadJanitor

__all__ = ["ABANDONED_AFTER", "abort_orphans", "upload_object"]

ABANDONED_AFTER = timedelta(hours=24)
"""Older unfinished uploads in this cluster's folder belong to nobody any more."""

_log = get_logger()

_PART_SIZE = 5 * 1024 * 1024
_PARALLEL_PARTS = 3
_MAX_PARTS = 10_000


def upload_object(store: ObjectStore, key: str, path: Path, entry: ObjectEntry, progress: Progress) -> None:
    """Store the file at ``path`` under ``key``; repeating it after any failure is harmless.

    Memory is bounded by a few parts. Raises Corruption when the spool's bytes are no longer what was sealed,
    SpoolFailed when they cannot be read, or the store's errors.
    """
    if entry.bytes <= _PART_SIZE:
        data = b"".join(_parts(path, entry, _PART_SIZE))
        store.put(key, data)
        progress.advance(len(data))
    else:
        writer = store.multipart(key)
        try:
            _write_parts(writer, path, entry, progress)
            writer.complete()
        except BaseException:
            _abort(writer, store.name, key)
            raise
    stored = store.head(key).size
    if stored != entry.bytes:
        raise Corruption(
            f"repository {store.name} acknowledged {entry.bytes} bytes of {key} and holds {stored}",
            hint="this store loses data; nothing was committed to it",
        )


def abort_orphans(janitor: UploadJanitor, folder: str, key: str, now: datetime) -> int:
    """Abort what earlier runs left: uploads to our own ``key``, and any in ``folder`` older than a day."""
    orphans = [
        upload
        for upload in janitor.stale_uploads(folder)
        if upload.key == key or now - upload.started_at > ABANDONED_AFTER
    ]
    for upload in orphans:
        janitor.abort_upload(upload)
    return len(orphans)


def _write_parts(writer: MultipartWriter, path: Path, entry: ObjectEntry, progress: Progress) -> None:
    size = max(_PART_SIZE, writer.min_part_size, -(-entry.bytes // _MAX_PARTS))
    with ThreadPoolExecutor(_PARALLEL_PARTS) as pool:
        running: dict[Future[None], int] = {}
        try:
            for number, part in enumerate(_parts(path, entry, size), start=1):
                running[pool.submit(writer.write_part, number, part)] = len(part)
                if len(running) == _PARALLEL_PARTS:  # before the next is read: each part costs its memory
                    _collect(running, progress)
            while running:
                _collect(running, progress)
        finally:
            for future in running:
                future.cancel()


def _abort(writer: MultipartWriter, repository: str, key: str) -> None:
    try:
        writer.abort()
    except RepositoryError as error:
        # The upload's own failure is what the caller must see; the next run aborts what is left here.
        _log.warning("upload.abort_failed", repository=repository, key=key, error=error.message)


def _collect(running: dict[Future[None], int], progress: Progress) -> None:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        size = running.pop(future)
        future.result()
        progress.advance(size)


def _parts(path: Path, entry: ObjectEntry, size: int) -> Iterator[bytes]:
    digest, total = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while part := file.read(size):
                digest.update(part)
                total += len(part)
                last = total >= entry.bytes or len(part) < size
                if last and (total != entry.bytes or digest.hexdigest() != entry.sha256):
                    break  # never hand out the last part of a damaged object
                yield part
    except OSError as error:
        raise SpoolFailed(f"cannot read the spool {path}: {error.strerror}", hint="check the disk") from error
    if total != entry.bytes or digest.hexdigest() != entry.sha256:
        raise Corruption(
            f"the spool {path} is no longer what was written there",
            hint="check the disk, remove that spool entry and take a new backup",
        )
