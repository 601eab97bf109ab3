"""One spooled object into one store, in parts, read once and checked against what was sealed."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta

from etcdguard.backup.growing import GrowingObject
from etcdguard.errors import Corruption, RepositoryError
from etcdguard.log import get_logger
from etcdguard.progress import Progress
from etcdguard.storage.base import MultipartWriter, ObjectStore, UploadJanitor

__all__ = ["ABANDONED_AFTER", "PART_SIZE", "abort_orphans", "upload_object"]

ABANDONED_AFTER = timedelta(hours=24)
"""Older unfinished uploads in this cluster's folder belong to nobody any more."""

_log = get_logger()

PART_SIZE = 5 * 1024 * 1024
"""Bytes; what has no more goes in one piece."""

_PARALLEL_PARTS = 3
_MAX_PARTS = 10_000


def upload_object(store: ObjectStore, key: str, source: GrowingObject, progress: Progress) -> None:
    """Store what is spooled under ``key``, waiting for it while it grows; repeating it is harmless.

    Memory is bounded by a few parts. Raises Corruption when the spool's bytes are no longer what was sealed,
    SpoolFailed when they cannot be read, Abandoned, or the store's errors.
    """
    if source.exceeds(PART_SIZE):
        writer = store.multipart(key)
        try:
            size = _write_parts(writer, source, progress)
            writer.complete()
        except BaseException:
            _abort(writer, store.name, key)
            raise
    else:
        data = b"".join(source.parts(PART_SIZE))
        store.put(key, data)
        size = len(data)
        progress.advance(size)
    stored = store.head(key).size
    if stored != size:
        raise Corruption(
            f"repository {store.name} acknowledged {size} bytes of {key} and holds {stored}",
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


def _write_parts(writer: MultipartWriter, source: GrowingObject, progress: Progress) -> int:
    """Returns the bytes written."""
    size = max(PART_SIZE, writer.min_part_size, -(-source.most_bytes // _MAX_PARTS))
    written = 0
    with ThreadPoolExecutor(_PARALLEL_PARTS) as pool:
        running: dict[Future[None], int] = {}
        try:
            for number, part in enumerate(source.parts(size), start=1):
                running[pool.submit(writer.write_part, number, part)] = len(part)
                written += len(part)
                if len(running) == _PARALLEL_PARTS:  # before the next is read: each part costs its memory
                    _collect(running, progress)
            while running:
                _collect(running, progress)
        finally:
            for future in running:
                future.cancel()
    return written


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
