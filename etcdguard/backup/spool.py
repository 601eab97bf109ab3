"""The spool: ciphertext on local disk between etcd and the repositories.

One folder an entry, named at random; its files say how far it came::

    sealing                 being written, or left by a crash: worth nothing; holds the key, if any, to which
                            its upload was begun
    snapshot.bin            the object as it will be stored (ciphertext, unless encryption is disabled)
    backup.json             the facts of a complete snapshot: from here on the entry is shipped, not discarded
    manifest.json(.sig)     frozen before the first commit, so that every repository gets the same bytes
    delivered-<repository>  that repository has acknowledged the manifest
    superseded-<repository> that repository has another backup of the same slot, and does not get this one

Beside the entries stands ``last-<cluster>.json``, the newest manifest that left the spool: it keeps the chain
whole when the repository that holds it cannot be reached the next time.

Every step is fsynced before the next begins. A lock keeps two runs on one node apart.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from etcdguard.errors import Corruption, Locked, SpoolFailed
from etcdguard.log import get_logger
from etcdguard.model import Cluster, Compression, Encryption, HashKV, Member, ObjectEntry, SnapshotFacts
from etcdguard.storage.durable import inherit_owner

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Spool", "SpoolEntry", "SpooledBackup"]

_log = get_logger()

_SEALING, _OBJECT, _FACTS = "sealing", "snapshot.bin", "backup.json"
_MANIFEST, _SIGNATURE = "manifest.json", "manifest.json.sig"
_DELIVERED, _SUPERSEDED = "delivered-", "superseded-"
_LOCK_POLL = 0.05
_STEP_BYTES = 8 * 1024 * 1024
"""Of an object, that go to the disk together."""
_ENTRY = re.compile(r"[0-9a-f]{16}")


class _Steady(io.FileIO):
    """Goes to the disk as it is written: all of it at the last moment, by fsync, would hold up others there.

    Such another is often the member that is being backed up.
    """

    _written = 0
    _sent = 0

    def write(self, data: Buffer) -> int:
        """As much as was taken."""
        count = super().write(data)
        self._written += count
        size = self._written - self._sent
        if size >= _STEP_BYTES:
            # Of pages that are not on the disk yet, Linux forgets none but begins to write them.
            os.posix_fadvise(self.fileno(), self._sent, size, os.POSIX_FADV_DONTNEED)
            self._sent = self._written
        return count


class SpooledBackup(BaseModel):
    """Everything a manifest says except its place in the chain, which is known only when it is shipped."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    id: str
    created_at: AwareDatetime
    cluster: Cluster
    members: tuple[Member, ...]
    snapshot: SnapshotFacts
    hash_kv: HashKV | None
    stored: ObjectEntry
    compression: Compression
    encryption: Encryption | None
    slot: str | None = None
    """The slot of the schedule that it was taken for."""
    repositories: tuple[str, ...]
    """Names of the repositories it is meant for."""


@dataclass(frozen=True)
class SpoolEntry:
    """One folder of the spool."""

    path: Path

    @property
    def object_path(self) -> Path:
        """The object's bytes, as they will be stored."""
        return self.path / _OBJECT

    def create(self) -> IO[bytes]:
        """Open the object for writing, 0600."""
        _write_durably(self.path / _SEALING, b"")
        descriptor = os.open(self.object_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        inherit_owner(self.object_path)
        return io.BufferedWriter(_Steady(descriptor, "wb"), 1024 * 1024)

    def begin_upload(self, key: str) -> None:
        """Remember that uploads of the incomplete object to that key of the stores begin."""
        _write_durably(self.path / _SEALING, key.encode())

    def upload_begun(self) -> str | None:
        """The key of the uploads that an incomplete entry's run had begun."""
        try:
            return (self.path / _SEALING).read_text() or None
        except FileNotFoundError:
            return None

    def complete(self, backup: SpooledBackup) -> None:
        """Declare the object whole; its bytes must already be synced."""
        _write_durably(self.path / _FACTS, backup.model_dump_json(indent=1).encode())
        with writing(self.path):
            (self.path / _SEALING).unlink()
            _sync_directory(self.path)

    def backup(self) -> SpooledBackup | None:
        """The facts of a complete entry; None for one that never became whole."""
        try:
            raw = (self.path / _FACTS).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return SpooledBackup.model_validate_json(raw)
        except ValidationError as error:
            raise Corruption(
                f"spool entry {self.path} is unreadable",
                hint="move it away by hand; it is listed nowhere yet",
            ) from error

    def freeze(self, manifest: bytes, signature: bytes | None) -> None:
        """Fix the manifest's bytes before any repository sees them."""
        if signature is not None:
            _write_durably(self.path / _SIGNATURE, signature)
        _write_durably(self.path / _MANIFEST, manifest)

    def frozen(self) -> tuple[bytes, bytes | None] | None:
        """Manifest and signature as fixed by an earlier delivery, if any."""
        try:
            manifest = (self.path / _MANIFEST).read_bytes()
        except FileNotFoundError:
            return None
        signature = self.path / _SIGNATURE
        return manifest, signature.read_bytes() if signature.exists() else None

    def mark_delivered(self, repository: str) -> None:
        """Remember that this repository holds the backup."""
        _write_durably(self.path / (_DELIVERED + repository), b"")

    def delivered(self) -> set[str]:
        """Repositories that hold the backup already."""
        return {path.name.removeprefix(_DELIVERED) for path in self.path.glob(_DELIVERED + "*")}

    def mark_superseded(self, repository: str) -> None:
        """Remember that this repository has another backup of the slot."""
        _write_durably(self.path / (_SUPERSEDED + repository), b"")

    def superseded(self) -> set[str]:
        """Repositories that have another backup of the slot."""
        return {path.name.removeprefix(_SUPERSEDED) for path in self.path.glob(_SUPERSEDED + "*")}

    def remember(self, cluster: str, manifest: bytes) -> None:
        """Keep this entry's manifest as the newest of its cluster, where ``Spool.last`` finds it."""
        _write_durably(_last_path(self.path.parent, cluster), manifest)

    def discard(self) -> None:
        """Remove the entry; its facts go first, so that a crash here leaves nothing to ship twice."""
        with writing(self.path):
            (self.path / _FACTS).unlink(missing_ok=True)
            _sync_directory(self.path)
            shutil.rmtree(self.path)
            _sync_directory(self.path.parent)


class Spool:
    """A directory of entries, 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self, patience: float = 0.0) -> Iterator[None]:
        """Hold the spool for one run; raises Locked when another on this node has it for longer (seconds).

        The log says so when it has to wait.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            inherit_owner(self.path / "lock")
        except OSError as error:
            raise SpoolFailed(
                f"cannot use the spool {self.path}: {error.strerror}",
                hint="create it, or point backup.spool_dir at a writable directory",
            ) from error
        try:
            try:
                _take(descriptor, patience)
            except BlockingIOError as error:
                raise Locked(
                    f"another etcdguard backup is running on this node (lock {self.path / 'lock'})",
                    hint="wait for it to end; the lock goes with the process",
                ) from error
            yield
        finally:
            os.close(descriptor)

    def entries(self) -> list[SpoolEntry]:
        """All entries, oldest first; what is not named like one is somebody else's and left alone."""
        paths = [path for path in self.path.iterdir() if _ENTRY.fullmatch(path.name) and path.is_dir()]
        return [
            SpoolEntry(path) for path in sorted(paths, key=lambda path: (path.stat().st_mtime_ns, path.name))
        ]

    def slots(self, cluster: str) -> dict[str, str]:
        """Slots of that cluster whose backup waits here, each with the backup's id; needs no lock."""
        found = {}
        for path in self.path.iterdir() if self.path.is_dir() else ():
            if _ENTRY.fullmatch(path.name):
                with contextlib.suppress(Corruption):  # the run that ships it says so
                    backup = SpoolEntry(path).backup()
                    if backup is not None and backup.slot is not None and backup.cluster.name == cluster:
                        found[backup.slot] = backup.id
        return found

    def last(self, cluster: str) -> bytes | None:
        """The newest manifest of that cluster that left the spool."""
        try:
            return _last_path(self.path, cluster).read_bytes()
        except FileNotFoundError:
            return None

    def new_entry(self) -> SpoolEntry:
        """An empty entry."""
        path = self.path / secrets.token_hex(8)
        with writing(self.path):
            path.mkdir(mode=0o700)
            inherit_owner(path)
            _sync_directory(self.path)
        return SpoolEntry(path)


def _take(descriptor: int, patience: float) -> None:
    """Lock the file; raises BlockingIOError when it is not to be had within so many seconds."""
    deadline = time.monotonic() + patience
    told = False
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        if not told:
            _log.warning("spool.waiting", reason="another etcdguard backup is running on this node")
            told = True
        time.sleep(_LOCK_POLL)


def _last_path(spool: Path, cluster: str) -> Path:
    return spool / f"last-{cluster}.json"


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate what can go wrong with a local disk."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SpoolFailed(
            f"cannot write the spool {path}: {error.strerror}",
            hint="free space there, or point backup.spool_dir at a larger disk"
            if full
            else "check the disk and the permissions of backup.spool_dir",
        ) from error


def _write_durably(path: Path, data: bytes) -> None:
    with writing(path.parent):
        temporary = path.with_name(path.name + ".tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            inherit_owner(temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
