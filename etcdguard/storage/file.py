"""A repository in a directory: the embedded default, and the readable reference of the seam.

Every object is staged as a file below ``.etcdguard-uploads/<id>/`` on the same file system, synced, and
then linked or renamed to its place; after that every directory from there up to the root is synced. So a key
either holds all of its bytes or does not exist, whatever fails at whatever moment, and what was killed
half-way is found by ``stale_uploads``.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from etcdguard.errors import ObjectExists, ObjectNotFound, RepositoryError, StoreUnavailable
from etcdguard.storage.arguments import (
    PIECE_BYTES,
    RESERVED,
    check_key,
    check_part_number,
    check_parts,
    check_prefix,
    check_range,
)
from etcdguard.storage.base import Lock, ObjectInfo, StaleUpload
from etcdguard.storage.durable import inherit_owner, make_folders, remove_tree, sync, translating, write

__all__ = ["FileMultipart", "FileStore"]

_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
_PUBLISH_ATTEMPTS = 10  # a concurrent delete may remove the folder we have just made, again and again


class FileStore:
    """Objects as files (0600) in folders (0700) below ``path``.

    An empty directory that ``create`` never saw is refused: it is more likely an unmounted disk than a
    repository without backups.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self._staging = path / RESERVED

    @classmethod
    def create(cls, name: str, path: Path) -> FileStore:
        """Make the directory and mark it as a repository; harmless where it already is one."""
        store = cls(name, path)
        with translating(name, "create", str(path)):
            make_folders(store._staging)
        return store

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """See ObjectStore."""
        writer = self.multipart(key)
        try:
            writer.write_part(1, data)
            writer.publish(create_only=create_only)
        finally:
            writer.abort()

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ObjectStore."""
        check_range(offset, length)
        with translating(self.name, "read", key), self._open(key) as fd:
            left = max(0, os.fstat(fd).st_size - offset)
            left = left if length is None else min(left, length)
            os.lseek(fd, offset, os.SEEK_SET)
            while left:
                piece = os.read(fd, min(left, PIECE_BYTES))
                if not piece:
                    raise StoreUnavailable(
                        f"repository {self.name}: {key} ended {left} bytes early",
                        hint="the file shrank while it was read; check the disk",
                    )
                left -= len(piece)
                yield piece

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        with translating(self.name, "read", key), self._open(key) as fd:
            return _info(key, os.fstat(fd))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore."""
        check_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        with translating(self.name, "list", prefix or "/"):
            found = [info for info in self._walk(folder) if info.key.startswith(prefix)]
            self._require_root()  # last: a disk that went away meanwhile must not pass for empty folders
        return iter(found)

    def folders(self, prefix: str) -> Sequence[str]:
        """See Surveyor. A folder without a file is none."""
        check_prefix(prefix)
        with translating(self.name, "list", prefix or "/"):
            try:
                entries = list(os.scandir(self.path / prefix))
            except (FileNotFoundError, NotADirectoryError):
                entries = []
            found = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
            found = [name for name in found if next(self._walk(f"{prefix}{name}"), None) is not None]
            self._require_root()
        return [name for name in found if prefix or name != RESERVED]

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        path = self.path / check_key(key)
        with translating(self.name, "delete", key):
            self._require_root()
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            self._remove_empty_folders(path.parent)

    def multipart(self, key: str) -> FileMultipart:
        """See ObjectStore."""
        check_key(key)
        folder = self._staging / uuid.uuid4().hex
        with translating(self.name, "write", key):
            self._require_root()
            make_folders(self._staging)
            folder.mkdir(mode=0o700)
            try:
                inherit_owner(folder)
                write(folder / "key", key.encode())
            except BaseException:
                remove_tree(folder)  # nobody knows of it yet
                raise
        return FileMultipart(self, key, folder)

    def stale_uploads(self, prefix: str) -> Sequence[StaleUpload]:
        """See UploadJanitor. One killed before noting its key stands below every prefix, with key ``""``."""
        check_prefix(prefix)
        with translating(self.name, "list the uploads of", prefix or "/"):
            self._require_root()
            folders = sorted(self._staging.iterdir()) if self._staging.is_dir() else []
        uploads = [self._upload(folder) for folder in folders if _UPLOAD_ID.fullmatch(folder.name)]
        return [found for found in uploads if found and (not found.key or found.key.startswith(prefix))]

    def abort_upload(self, upload: StaleUpload) -> None:
        """See UploadJanitor."""
        with translating(self.name, "abort the upload of", upload.key):
            if not _UPLOAD_ID.fullmatch(upload.upload_id):
                raise ValueError(f"not an upload of this store: {upload.upload_id!r}")
            remove_tree(self._staging / upload.upload_id)

    def lock(self, key: str) -> Lock | None:
        """See Custodian. Files have no lock that we could ask for."""
        self.head(key)
        return None

    def time(self) -> datetime | None:
        """See Custodian."""
        return None

    def publish(self, key: str, staged: Path, *, create_only: bool) -> None:
        """Give a complete, synced file its key, and make that last."""
        target = self.path / key
        for _ in range(_PUBLISH_ATTEMPTS):
            if self._place(staged, target, key, create_only=create_only):
                break
        else:
            raise StoreUnavailable(
                f"repository {self.name}: the folder of {key} keeps disappearing",
                hint="stop whatever is deleting in this repository and try again",
            )
        # Not only the folders we made: another writer may have made one and not synced its entry yet.
        for folder in (target.parent, *target.parent.relative_to(self.path).parents):
            sync(self.path / folder)

    def _place(self, staged: Path, target: Path, key: str, *, create_only: bool) -> bool:
        """False when a folder above the target was removed under us."""
        try:
            make_folders(target.parent)
            if create_only:
                os.link(staged, target)
            else:
                staged.replace(target)
        except FileExistsError as e:
            raise ObjectExists(
                f"repository {self.name}: {key} already exists",
                hint="another writer was first; nothing was changed",
            ) from e
        except FileNotFoundError:
            if not staged.exists():
                raise
            return False
        return True

    def _walk(self, folder: str) -> Iterator[ObjectInfo]:
        """Every file below ``folder`` in key order: a folder sorts as its name and the slash after it."""
        try:
            entries = list(os.scandir(self.path / folder))
        except (FileNotFoundError, NotADirectoryError):
            return  # never made, or removed by a delete because it was empty
        keyed = sorted((entry.name + "/" * entry.is_dir(follow_symlinks=False), entry) for entry in entries)
        for name, entry in keyed:
            key = f"{folder}/{name}" if folder else name
            if key == f"{RESERVED}/":
                continue
            if name.endswith("/"):
                yield from self._walk(key[:-1])
            elif not entry.is_file(follow_symlinks=False):
                raise RepositoryError(
                    f"repository {self.name}: {key} is neither a file nor a folder",
                    hint="remove links and devices from the repository; mount the disk at its root instead",
                )
            else:
                with suppress(FileNotFoundError):  # deleted since: no longer part of the answer
                    yield _info(key, entry.stat(follow_symlinks=False))

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        check_key(key)
        try:
            fd = os.open(self.path / key, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError) as e:
            self._require_root()
            raise self._not_found(key) from e
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise self._not_found(key)
            yield fd
        finally:
            os.close(fd)

    def _upload(self, folder: Path) -> StaleUpload | None:
        """None when it has been completed or aborted since."""
        note = folder / "key"
        with translating(self.name, "read the upload", folder.name):
            try:
                key = note.read_text(encoding="utf-8") if note.exists() else ""
                began = (note if key else folder).stat().st_mtime
            except FileNotFoundError:
                return None
        return StaleUpload(key, folder.name, datetime.fromtimestamp(began, timezone.utc))

    def _remove_empty_folders(self, folder: Path) -> None:
        while folder != self.path:
            sync(folder)
            try:
                folder.rmdir()
            except OSError as e:
                if e.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
                return
            folder = folder.parent
        sync(folder)

    def _require_root(self) -> None:
        """Raise RepositoryError unless the root is a directory in use or marked by ``create``."""
        hint = "mount the disk, or create the repository with 'etcdguard init'"
        try:
            empty = next(os.scandir(self.path), None) is None
        except (FileNotFoundError, NotADirectoryError) as e:
            raise RepositoryError(f"repository {self.name}: {self.path} is not a directory", hint=hint) from e
        if empty:
            raise RepositoryError(
                f"repository {self.name}: {self.path} is empty and was never set up as a repository",
                hint=hint,
            )

    def _not_found(self, key: str) -> ObjectNotFound:
        return ObjectNotFound(f"repository {self.name}: {key} does not exist", hint="run 'etcdguard list'")


class FileMultipart:
    """See MultipartWriter. Parts are files; ``complete`` appends them to the first."""

    min_part_size = 1

    def __init__(self, store: FileStore, key: str, folder: Path) -> None:
        self._store = store
        self._key = key
        self._folder = folder
        self._sizes: dict[int, int] = {}
        self._done: ObjectInfo | None = None

    def write_part(self, number: int, data: bytes) -> None:
        """See MultipartWriter."""
        with translating(self._store.name, "write", self._key):
            write(self._part(check_part_number(number)), data)
        self._sizes[number] = len(data)

    def complete(self) -> ObjectInfo:
        """See MultipartWriter."""
        if self._done is None:
            self._done = self.publish(create_only=False)
            self.abort()
        return self._done

    def publish(self, *, create_only: bool) -> ObjectInfo:
        """Assemble, sync and give the key; the staging folder is left to ``abort``."""
        check_parts(self._sizes)
        with translating(self._store.name, "write", self._key):
            whole = self._assemble()
            self._store.publish(self._key, whole, create_only=create_only)
        return ObjectInfo(self._key, sum(self._sizes.values()))

    def abort(self) -> None:
        """See MultipartWriter."""
        with translating(self._store.name, "clear away the upload of", self._key):
            remove_tree(self._folder)

    def _assemble(self) -> Path:
        """Copy every later part to its place behind the first; the same bytes however often it is tried."""
        first, *rest = sorted(self._sizes)
        end = self._sizes[first]
        with self._part(first).open("r+b") as whole:
            for number in rest:
                whole.seek(end)
                with self._part(number).open("rb") as part:
                    shutil.copyfileobj(part, whole, PIECE_BYTES)
                end += self._sizes[number]
            whole.truncate(end)
            whole.flush()
            os.fsync(whole.fileno())
        return self._part(first)

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}"


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, timezone.utc))
