"""A backup's plain snapshot as a file, complete and verified or not there at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from etcdguard.catalog.catalog import Backup, Catalog
from etcdguard.crypto.recipients import Identity
from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.fetch import open_plain
from etcdguard.progress import Progress

__all__ = ["download"]


def download(
    catalog: Catalog,
    reference: str,
    target: Path,
    identities: Sequence[Identity],
    progress: Progress,
    *,
    replace: bool,
    allow_unsigned: bool = False,
) -> Backup:
    """Write the snapshot to ``target``, 0600, once every check has passed; a failure before leaves nothing.

    Raises Refused if ``target`` is there and not to be replaced, or the backup is not signed by anyone
    trusted; WrongKey, Corruption, or the store's errors.
    """
    if not replace and target.exists():
        raise Refused(f"{target} exists", hint="choose another name, or pass --force to replace it")
    backup = catalog.resolve(reference)
    if not allow_unsigned:
        backup.require_trusted()
    progress.phase("download", backup.manifest.snapshot.db_bytes)
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise EtcdGuardError(
            f"cannot write {target}: {error.strerror}", hint="choose a directory that exists and is writable"
        ) from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in open_plain(catalog.store, catalog.layout, backup.manifest, identities):
                file.write(piece)
                progress.advance(len(piece))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        raise EtcdGuardError(
            f"cannot write {target}: {error.strerror}", hint="free space there, or choose another directory"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
        progress.done()
    return backup
