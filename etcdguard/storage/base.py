"""The seam between etcdguard and anything that keeps objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

__all__ = [
    "Custodian",
    "Lock",
    "LockRule",
    "MultipartWriter",
    "ObjectInfo",
    "ObjectStore",
    "RepositoryStore",
    "StaleUpload",
    "Surveyor",
    "UploadJanitor",
]


_CLOCKS_APART = timedelta(minutes=10)
"""So much may a store's clock be behind this machine's."""


@dataclass(frozen=True)
class ObjectInfo:
    """What a store says of an object: its key, its size in bytes, and when it was written, by its clock."""

    key: str
    size: int
    modified: datetime | None = field(default=None, compare=False)


class MultipartWriter(Protocol):
    """An object in the making. Nothing is visible at its key before ``complete`` returns.

    Parts are numbered from 1, may be written from several threads and more than once (the last write wins);
    every part but the last is at least ``min_part_size`` bytes. After ``abort`` nothing of it remains.
    """

    min_part_size: int

    def write_part(self, number: int, data: bytes) -> None:
        """Store part ``number``; idempotent."""

    def complete(self) -> ObjectInfo:
        """Assemble the parts in number order; idempotent: a second call after success confirms it."""

    def abort(self) -> None:
        """Forget every part; idempotent; never raises for an upload that is already gone."""


class ObjectStore(Protocol):
    """Flat keys to immutable bytes.

    Keys are relative ``/``-separated paths without ``.``, ``..`` or empty parts (``storage.arguments``), and
    no key is the folder of another: several stores keep them as files.

    Contract (tests/contract/test_object_store.py runs it over every implementation):

    - A returned ``put`` or ``complete`` is durable and visible to every later call (read-after-write).
    - An error is never an empty answer: a key that cannot be read raises something other than ObjectNotFound
      unless the store said that it does not exist.
    - Errors are from etcdguard.errors: ObjectNotFound, ObjectExists, AccessDenied, StoreUnavailable (worth a
      retry) and RepositoryError; foreign exceptions are translated inside the implementation.
    - Instances may be shared by threads.
    """

    name: str
    """The repository's name in the configuration; for messages and results."""

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """Store a small object atomically.

        With ``create_only`` a key that is taken raises ObjectExists, and nothing is changed.
        """

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield the object's bytes (a range of them) in pieces of at most 1 MiB.

        Raises ObjectNotFound (at the latest on the first piece) and StoreUnavailable when the body ends
        early. A range is cut at the end of the object; one that begins there or beyond yields nothing.
        """

    def head(self, key: str) -> ObjectInfo:
        """Facts of one object; raises ObjectNotFound."""

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, in key order: complete, or raises; never partial."""

    def delete(self, key: str) -> None:
        """Remove the object; an absent key is success."""

    def multipart(self, key: str) -> MultipartWriter:
        """Begin an object too large for one ``put``."""


@dataclass(frozen=True)
class StaleUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    upload_id: str
    started_at: datetime


class UploadJanitor(Protocol):
    """Finds and removes what interrupted multipart uploads left behind. Every ObjectStore here is one too."""

    def stale_uploads(self, prefix: str) -> Sequence[StaleUpload]:
        """Every unfinished upload below ``prefix``: complete, or raises."""

    def abort_upload(self, upload: StaleUpload) -> None:
        """Remove it; an absent upload is success."""


@dataclass(frozen=True)
class Lock:
    """How the store itself keeps an object from being deleted (object lock)."""

    until: datetime
    """The end of the calendar stands for a legal hold, which has no end."""
    mode: str | None
    """COMPLIANCE or GOVERNANCE, as the store says; None for a legal hold alone."""


class Custodian(Protocol):
    """What must be known before anything is deleted. Every ObjectStore here is one too."""

    def lock(self, key: str) -> Lock | None:
        """The object's lock; None: whoever has the right to may delete it. Raises ObjectNotFound."""

    def time(self) -> datetime | None:
        """What the store's own clock says; None where that is this machine's."""


@dataclass(frozen=True)
class LockRule:
    """The object lock that every object of a repository is to get, from when it is written."""

    mode: str
    """COMPLIANCE or GOVERNANCE."""
    days: int

    def __str__(self) -> str:
        return f"{self.mode} for {self.days} days"

    def broken(self, lock: Lock | None, since: datetime) -> tuple[str, str] | None:
        """What is wrong with the lock of an object written then: ``missing``, ``weak`` or ``short``; and why.

        A stronger or longer lock than asked for is none the worse.
        """
        if lock is None:
            return "missing", "is not locked"
        if self.mode == "COMPLIANCE" and lock.mode != self.mode:
            return "weak", f"is locked in mode {lock.mode or 'legal hold'}, which can be taken off"
        if lock.until < since + timedelta(days=self.days) - _CLOCKS_APART:
            return "short", f"is locked until {lock.until.isoformat(timespec='seconds')} only"
        return None


class Surveyor(Protocol):
    """Finds out what a store is divided into. Every ObjectStore here is one too."""

    def folders(self, prefix: str) -> Sequence[str]:
        """The next part, in order, of all keys that go on below ``prefix``: complete, or raises.

        ``prefix`` is empty or ends with a slash; ``["a", "b"]`` for ``""`` and the keys ``a/1``, ``a/2/3``,
        ``b/4`` and ``c``. A folder whose last key was deleted may be among them.
        """


class RepositoryStore(ObjectStore, UploadJanitor, Custodian, Surveyor, Protocol):
    """What every implementation here is."""
