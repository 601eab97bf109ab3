"""A spooled object as its uploads read it: whole, or while it is still being written."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from etcdguard.errors import Corruption, EtcdGuardError, SpoolFailed
from etcdguard.model import ObjectEntry

__all__ = ["Abandoned", "GrowingObject"]


class Abandoned(EtcdGuardError):
    """The object will never be whole: whoever uploads it takes back what is uploaded."""


class GrowingObject:
    """The file at ``path``; each upload reads it for itself, in a thread of its own.

    ``entry`` says what the whole is, and its last part is handed out only when the bytes are what was sealed.
    Without one, readers wait for what is still to come: the writer calls ``grown`` after every write, and in
    the end ``whole`` or ``abandon``. ``most_bytes`` is the size it cannot exceed, for choosing parts.
    """

    def __init__(self, path: Path, entry: ObjectEntry | None = None, *, most_bytes: int = 0) -> None:
        self._path = path
        self._entry = entry
        self._most_bytes = most_bytes
        self._abandoned = False
        self._changed = threading.Condition()

    @property
    def most_bytes(self) -> int:
        """Its size, or what it cannot exceed."""
        return self._most_bytes if self._entry is None else self._entry.bytes

    def grown(self) -> None:
        """Bytes were written."""
        with self._changed:
            self._changed.notify_all()

    def whole(self, entry: ObjectEntry) -> None:
        """Every byte is on the disk."""
        with self._changed:
            self._entry = entry
            self._changed.notify_all()

    def abandon(self) -> None:
        """End every reader with Abandoned."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def exceeds(self, size: int) -> bool:
        """Whether it has more bytes than that; waits until this can be told."""
        with self._open() as file:
            entry = self._await(file, size + 1)
        return entry is None or entry.bytes > size

    def parts(self, size: int) -> Iterator[bytes]:
        """All its bytes in parts of ``size``, the last one perhaps smaller.

        Raises Corruption when they are not what was sealed, SpoolFailed when they cannot be read.
        """
        digest, total = hashlib.sha256(), 0
        with self._open() as file:
            while True:
                entry = self._await(file, total + size)
                part = file.read(size)
                digest.update(part)
                total += len(part)
                if entry is not None and (total >= entry.bytes or len(part) < size):
                    break
                yield part
            beyond = file.read(1)
        if beyond or total != entry.bytes or digest.hexdigest() != entry.sha256:
            raise Corruption(
                f"the spool {self._path} is no longer what was written there",
                hint="check the disk, remove that spool entry and take a new backup",
            )
        if part:
            yield part

    def _await(self, file: BinaryIO, size: int) -> ObjectEntry | None:
        """Wait for that many bytes, or for the whole, which may have fewer."""
        return self._until(lambda: self._entry is not None or os.fstat(file.fileno()).st_size >= size)

    def _until(self, told: Callable[[], bool]) -> ObjectEntry | None:
        with self._changed:
            while not self._abandoned:
                if told():
                    return self._entry
                self._changed.wait()
        raise Abandoned("the snapshot was given up", hint="the run that gave it up says why")

    @contextmanager
    def _open(self) -> Iterator[BinaryIO]:
        try:
            with self._path.open("rb") as file:
                yield file
        except OSError as error:
            raise SpoolFailed(
                f"cannot read the spool {self._path}: {error.strerror}", hint="check the disk"
            ) from error
