"""The upload that begins while the snapshot is still being taken.

The key of an object holds its backup's id, and that the revision of the snapshot, which only its last pages
tell. But a member whose revision was the same before it was asked for a snapshot and after the first bytes of
it came can only have taken it at that revision, so in a cluster that is not written to in between the id is
known at once (docs/adr/0011-upload-while-the-snapshot-streams.md). Elsewhere the upload begins at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType

from etcdguard.backup import upload
from etcdguard.backup.growing import Abandoned, GrowingObject
from etcdguard.errors import EtcdGuardError
from etcdguard.log import get_logger
from etcdguard.model import BackupId, ObjectEntry
from etcdguard.progress import NoProgress, Progress

__all__ = ["Begun", "EarlyUpload"]

_log = get_logger()


class Begun:
    """An object on its way to some repositories, each upload in a thread of its own.

    ``uploads`` are called with the progress to report to; what they have done before ``whole`` is reported
    then, at once.
    """

    def __init__(
        self, backup_id: BackupId, source: GrowingObject, uploads: Mapping[str, Callable[[Progress], None]]
    ) -> None:
        self.id = backup_id
        self._source = source
        self._progress = _Counted()
        self._pool = ThreadPoolExecutor(max(len(uploads), 1), thread_name_prefix="early-upload")
        self._futures: dict[str, Future[None]] = {
            name: self._pool.submit(bring, self._progress) for name, bring in uploads.items()
        }

    def __contains__(self, repository: str) -> bool:
        return repository in self._futures

    def whole(self, entry: ObjectEntry, progress: Progress) -> None:
        """Every byte is spooled: the uploads may end, and report to ``progress`` from now on."""
        self._progress.show(progress)
        self._source.whole(entry)

    def finish(self, repository: str) -> None:
        """Wait until that repository holds the whole object; raises what its upload raised."""
        self._futures[repository].result()

    def abandon(self) -> None:
        """Take back every upload that has not finished. Idempotent."""
        self._source.abandon()
        wait(self._futures.values())
        self._pool.shutdown()


class EarlyUpload:
    """Begins to upload before the object is whole, where it can.

    ``prepare`` comes first, ``grown`` after each write, ``settle`` at the end. A context: on leaving, what
    was begun and not shipped is taken back.
    """

    def __init__(self) -> None:
        self._source: GrowingObject | None = None
        self._try: Callable[[], None] | None = None
        self._attempt: Future[None] | None = None
        self._begun: Begun | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="early-upload")

    def __enter__(self) -> EarlyUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.abandon()

    def prepare(
        self,
        source: GrowingObject,
        identify: Callable[[], BackupId | None],
        begin: Callable[[BackupId, GrowingObject], Begun],
    ) -> None:
        """Begin with ``source`` when it has grown enough.

        ``identify`` is asked for the id at its first bytes, ``begin`` starts the uploads; an error that they
        raise only means that nothing begins early.
        """
        self._source = source
        self._try = partial(self._begin, source, identify, begin)

    def grown(self) -> None:
        """Bytes were written."""
        if self._source is not None:
            self._source.grown()
        if self._attempt is None and self._try is not None:
            self._attempt = self._pool.submit(self._try)

    def settle(self, revision: int) -> Begun | None:
        """What was begun for a snapshot that turns out to be of ``revision``; nothing begins any more."""
        begun = self._stop()
        if begun is None or begun.id.revision == revision:
            return begun
        _log.warning("backup.early_upload_wrong", expected=begun.id.revision, revision=revision)
        begun.abandon()
        return None

    def abandon(self) -> None:
        """Take back what was begun and is not whole; nothing begins any more. Idempotent."""
        begun = self._stop()
        if begun is not None:
            begun.abandon()
        self._pool.shutdown()
        if self._attempt is not None:
            self._attempt.result()

    def _stop(self) -> Begun | None:
        with self._lock:
            self._stopped = True
        if self._begun is None and self._source is not None:
            self._source.abandon()
        return self._begun

    def _begin(
        self,
        source: GrowingObject,
        identify: Callable[[], BackupId | None],
        begin: Callable[[BackupId, GrowingObject], Begun],
    ) -> None:
        try:
            backup_id = identify()
            if backup_id is None or not source.exceeds(upload.PART_SIZE):
                return
            with self._lock:
                if not self._stopped:
                    self._begun = begin(backup_id, source)
        except Abandoned:
            pass  # it ended before it was worth it
        except EtcdGuardError as error:
            # The run itself meets whatever it is, and says so.
            _log.info("backup.early_upload_skipped", error=error.message)


class _Counted(NoProgress):
    """Keeps what is done until somebody watches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: Progress | None = None
        self._kept = 0

    def advance(self, count: int) -> None:
        """See Progress."""
        with self._lock:
            self._kept += count
            self._report()

    def show(self, progress: Progress) -> None:
        """Report there what is kept, and what comes."""
        with self._lock:
            self._shown = progress
            self._report()

    def _report(self) -> None:
        if self._shown is not None:
            self._shown.advance(self._kept)
            self._kept = 0
