"""What callers may pass: the same for every store, so that what works on one works on all.

Keys are the largest set that every store can hold and no file system can be tricked with.
"""

from __future__ import annotations

from collections.abc import Collection

from etcdguard.errors import RepositoryError

__all__ = [
    "PIECE_BYTES",
    "RESERVED",
    "check_key",
    "check_part_number",
    "check_parts",
    "check_prefix",
    "check_range",
]

PIECE_BYTES = 1024 * 1024
"""``get`` yields pieces of at most this size."""

RESERVED = ".etcdguard-uploads"
"""The first part no key may have: file repositories stage unfinished objects there."""

_MAX_KEY_BYTES = 1024  # S3's limit
_MAX_PART_BYTES = 255  # a file name's limit on Linux
_MAX_PART_NUMBER = 10_000  # S3's limit


def check_key(key: str) -> str:
    """Return ``key``, or raise RepositoryError if it is not a relative path of plain, printable parts."""
    parts = key.split("/")
    _check_text(key)
    if any(part in ("", ".", "..") for part in parts):
        raise _unusable(key, "an empty, '.' or '..' part")
    if parts[0] == RESERVED:
        raise _unusable(key, f"{RESERVED} is reserved")
    if any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise _unusable(key, f"a part longer than {_MAX_PART_BYTES} bytes")
    return key


def check_prefix(prefix: str) -> str:
    """Return ``prefix``, or raise RepositoryError. It may be empty and may end inside a part."""
    folder, _, _ = prefix.rpartition("/")
    _check_text(prefix)
    if folder or prefix.startswith("/"):
        check_key(folder)
    return prefix


def check_range(offset: int, length: int | None) -> None:
    """Raise ValueError for a range no caller can mean."""
    if offset < 0 or (length is not None and length < 0):
        raise ValueError(f"negative range: offset {offset}, length {length}")


def check_part_number(number: int) -> int:
    """Return ``number``, or raise ValueError: parts of an upload are numbered 1 to 10,000."""
    if not 1 <= number <= _MAX_PART_NUMBER:
        raise ValueError(f"part number {number} is not within 1 to {_MAX_PART_NUMBER}")
    return number


def check_parts(parts: Collection[int]) -> None:
    """Raise ValueError when there is nothing to complete (an empty object is one empty part)."""
    if not parts:
        raise ValueError("an upload cannot be completed without a part")


def _check_text(key: str) -> None:
    if not key.isprintable():
        raise _unusable(key, "an unprintable character")
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise _unusable(key, f"more than {_MAX_KEY_BYTES} bytes")


def _unusable(key: str, why: str) -> RepositoryError:
    return RepositoryError(
        f"object key {key[:80]!r} cannot be used: {why}",
        hint="check the cluster name and the repository's prefix in the configuration",
    )
