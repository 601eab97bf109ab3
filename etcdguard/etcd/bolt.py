"""bbolt's page format, read-only: meta pages, branch and leaf elements, inline buckets.

Layout after bbolt's ``page.go``, ``meta`` and ``bucket`` structures; every number is little-endian, as etcd
writes it on amd64 and arm64. Nothing here trusts a length before it is checked against the bytes at hand.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from etcdguard.errors import Corruption

__all__ = [
    "BRANCH",
    "BUCKET_LEAF",
    "ELEMENT_SIZE",
    "LEAF",
    "PAGE_HEADER_SIZE",
    "BoltError",
    "Bucket",
    "Leaf",
    "Meta",
    "first_meta",
    "parse_bucket",
    "parse_leaf",
]

BRANCH = 0x01
LEAF = 0x02
META = 0x04
BUCKET_LEAF = 0x01
"""Leaf element flag: the value is a bucket header."""

PAGE_HEADER_SIZE = 16
ELEMENT_SIZE = 16
_MAGIC = 0xED0CDAED
_VERSION = 2
_META = struct.Struct("<IIIIQQQQQQ")
_PAGE_HEADER = struct.Struct("<QHHI")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET_HEADER = struct.Struct("<QQ")
_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_MIN_PAGE_SIZE = 512
_MAX_PAGE_SIZE = 65536


class BoltError(Corruption):
    """The bytes are not a sound bbolt database."""

    def __init__(
        self, message: str, *, hint: str = "take a new backup from another member and verify it"
    ) -> None:
        super().__init__(message, hint=hint)


@dataclass(frozen=True)
class Meta:
    """The root of everything in one snapshot: which page the root bucket starts at."""

    page_size: int
    root: int
    high_water: int
    """Number of pages in use; every page id is below it."""
    txid: int


@dataclass(frozen=True)
class Bucket:
    """A bucket's root page, or its inline page's elements when it is small enough to need none."""

    root: int
    inline: Leaf | None


@dataclass(frozen=True)
class Leaf:
    """Decoded leaf elements in stored order."""

    keys: tuple[bytes, ...]
    values: tuple[bytes, ...]
    is_bucket: tuple[bool, ...]


def first_meta(head: bytes) -> Meta:
    """The valid meta page with the higher txid; ``head`` is the first 128 KiB, or the whole file."""
    candidates = [meta for meta in (_meta_at(head, 0), *_second_meta(head)) if meta is not None]
    if not candidates:
        raise BoltError("not an etcd snapshot: no valid bbolt meta page")
    return max(candidates, key=lambda meta: meta.txid)


def _second_meta(head: bytes) -> list[Meta | None]:
    # Page 1's place depends on the page size, which a damaged page 0 cannot tell: try every power of two.
    found: list[Meta | None] = []
    size = _MIN_PAGE_SIZE
    while size <= _MAX_PAGE_SIZE:
        meta = _meta_at(head, size)
        if meta is not None and meta.page_size == size:
            found.append(meta)
        size *= 2
    return found


def _meta_at(head: bytes, offset: int) -> Meta | None:
    start = offset + PAGE_HEADER_SIZE
    if len(head) < start + _META.size:
        return None
    magic, version, page_size, _flags, root, _sequence, _freelist, high_water, txid, checksum = (
        _META.unpack_from(head, start)
    )
    if magic != _MAGIC or version != _VERSION or _fnv1a(head[start : start + 56]) != checksum:
        return None
    if page_size & (page_size - 1) or not _MIN_PAGE_SIZE <= page_size <= _MAX_PAGE_SIZE:
        return None
    return Meta(page_size, root, high_water, txid)


def _fnv1a(data: bytes) -> int:
    value = _FNV_OFFSET
    for byte in data:
        value = ((value ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


def parse_leaf(page: bytes) -> Leaf:
    """Decode a whole leaf page (with its overflow pages) or a bucket's inline page."""
    if len(page) < PAGE_HEADER_SIZE:
        raise BoltError("a leaf page is cut short")
    _id, flags, count, _overflow = _PAGE_HEADER.unpack_from(page)
    if flags != LEAF:
        raise BoltError(f"page flags {flags:#x} where a leaf page belongs")
    if PAGE_HEADER_SIZE + count * ELEMENT_SIZE > len(page):
        raise BoltError(f"a leaf page claims {count} elements, more than it has room for")
    keys, values, buckets = [], [], []
    room = (
        len(page) - PAGE_HEADER_SIZE - count * ELEMENT_SIZE
    )  # elements that shared bytes could fill any memory
    for index in range(count):
        at = PAGE_HEADER_SIZE + index * ELEMENT_SIZE
        element_flags, pos, key_size, value_size = _LEAF_ELEMENT.unpack_from(page, at)
        key_at = at + pos
        if key_at + key_size + value_size > len(page):
            raise BoltError("a leaf element points outside its page")
        room -= key_size + value_size
        if room < 0:
            raise BoltError("the elements of a leaf page overlap")
        keys.append(page[key_at : key_at + key_size])
        values.append(page[key_at + key_size : key_at + key_size + value_size])
        buckets.append(bool(element_flags & BUCKET_LEAF))
    return Leaf(tuple(keys), tuple(values), tuple(buckets))


def parse_bucket(value: bytes) -> Bucket:
    """Decode a bucket header; ``root`` 0 means that the bucket's only page follows inline."""
    if len(value) < _BUCKET_HEADER.size:
        raise BoltError("a bucket header is cut short")
    root, _sequence = _BUCKET_HEADER.unpack_from(value)
    return Bucket(root, None if root else parse_leaf(value[_BUCKET_HEADER.size :]))
