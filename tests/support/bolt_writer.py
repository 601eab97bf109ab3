"""Writes small bbolt databases with every freedom bbolt has: page order, tree depth, overflow, stale."""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Shape", "revision_key", "with_trailer", "write_database"]

PAGE = 4096
Element = tuple[bytes, bytes]


@dataclass(frozen=True)
class Shape:
    """How the database is laid out."""

    leaf_fanout: int = 20
    branch_fanout: int = 4
    stale_pages: int = 3
    seed: int = 0
    inline_meta: bool = True


def revision_key(main: int, sub: int = 0, *, tombstone: bool = False) -> bytes:
    """A key of etcd's key bucket."""
    return struct.pack(">Q", main) + b"_" + struct.pack(">Q", sub) + (b"t" if tombstone else b"")


def with_trailer(database: bytes) -> bytes:
    """A snapshot as the RPC sends it."""
    return database + hashlib.sha256(database).digest()


def write_database(
    revisions: Sequence[Element], meta: Mapping[bytes, bytes], shape: Shape | None = None
) -> bytes:
    """A database with a key bucket of ``revisions`` (in that order, right or wrong) and a meta bucket."""
    shape = shape or Shape()
    return _Writer(shape).write(list(revisions), sorted(meta.items()))


class _Writer:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._random = random.Random(shape.seed)
        self._nodes: list[tuple[int, list[bytes], list[bytes | int]]] = []  # kind, keys, values or children

    def write(self, revisions: list[Element], meta: list[Element]) -> bytes:
        key_root = self._tree(revisions)
        buckets: list[tuple[bytes, bytes | int]] = [(b"key", key_root)]
        if self._shape.inline_meta:
            inline = _leaf_page(0, [k for k, _ in meta], [v for _, v in meta], flags=0)
            buckets.append((b"meta", struct.pack("<QQ", 0, 0) + inline))
        else:
            buckets.append((b"meta", self._tree(meta)))
        root = self._node(2, [name for name, _ in buckets], [value for _, value in buckets])
        return self._layout(root)

    def _node(self, kind: int, keys: list[bytes], values: list[bytes | int]) -> int:
        self._nodes.append((kind, keys, values))
        return len(self._nodes) - 1

    def _tree(self, elements: list[Element]) -> int:
        fan = self._shape.leaf_fanout
        chunks = [elements[i : i + fan] for i in range(0, len(elements), fan)] or [[]]
        level = [(c[0][0] if c else b"", self._node(2, [k for k, _ in c], [v for _, v in c])) for c in chunks]
        while len(level) > 1:
            fan = self._shape.branch_fanout
            groups = [level[i : i + fan] for i in range(0, len(level), fan)]
            level = [(g[0][0], self._node(1, [k for k, _ in g], [n for _, n in g])) for g in groups]
        return level[0][1]

    def _layout(self, root: int) -> bytes:
        sizes = [_pages_needed(keys, values) for _, keys, values in self._nodes]
        order: list[int | None] = [*range(len(self._nodes)), *[None] * self._shape.stale_pages]
        self._random.shuffle(order)
        place: dict[int, int] = {}
        stale: list[int] = []
        number = 2
        for node in order:
            if node is None:
                stale.append(number)
                number += 1
            else:
                place[node] = number
                number += sizes[node]
        file = bytearray(number * PAGE)
        for node, (kind, keys, values) in enumerate(self._nodes):
            page = self._page(kind, place[node], keys, values, place)
            start = place[node] * PAGE
            file[start : start + len(page)] = page
        for number_ in stale:
            old = _leaf_page(number_, [revision_key(10**9)], [b"stale"], flags=0)
            file[number_ * PAGE : number_ * PAGE + len(old)] = old
        for index, txid in ((0, 8), (1, 7)):
            meta = _meta_page(index, place[root], len(file) // PAGE, txid)
            file[index * PAGE : index * PAGE + len(meta)] = meta
        return bytes(file)

    def _page(
        self, kind: int, number: int, keys: list[bytes], values: list[bytes | int], place: dict[int, int]
    ) -> bytes:
        if kind == 1:
            return _branch_page(number, keys, [place[value] for value in values if isinstance(value, int)])
        bucket = bool(values) and keys[0] == b"key"
        raw = [value if isinstance(value, bytes) else struct.pack("<QQ", place[value], 0) for value in values]
        return _leaf_page(number, keys, raw, flags=1 if bucket else 0)


def _pages_needed(keys: Sequence[bytes], values: Sequence[bytes | int]) -> int:
    sizes = (len(value) if isinstance(value, bytes) else 16 for value in values)
    size = 16 + sum(16 + len(key) + value for key, value in zip(keys, sizes, strict=True))
    return -(-size // PAGE)


def _leaf_page(number: int, keys: Sequence[bytes], values: Sequence[bytes], *, flags: int) -> bytes:
    heads, data = b"", b""
    for index, (key, value) in enumerate(zip(keys, values, strict=True)):
        pos = 16 * (len(keys) - index) + len(data)
        heads += struct.pack("<IIII", flags, pos, len(key), len(value))
        data += key + value
    return _header(number, 2, len(keys), 16 + len(heads) + len(data)) + heads + data


def _branch_page(number: int, keys: Sequence[bytes], children: Sequence[int]) -> bytes:
    heads, data = b"", b""
    for index, (key, child) in enumerate(zip(keys, children, strict=True)):
        pos = 16 * (len(keys) - index) + len(data)
        heads += struct.pack("<IIQ", pos, len(key), child)
        data += key
    return _header(number, 1, len(keys), 16 + len(heads) + len(data)) + heads + data


def _header(number: int, flags: int, count: int, size: int) -> bytes:
    return struct.pack("<QHHI", number, flags, count, max(0, -(-size // PAGE) - 1))


def _meta_page(number: int, root: int, pages: int, txid: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, PAGE, 0, root, 0, 0, pages, txid)
    checksum = 0xCBF29CE484222325
    for byte in body:
        checksum = ((checksum ^ byte) * 0x100000001B3) % 2**64
    return struct.pack("<QHHI", number, 4, 0, 0) + body + struct.pack("<Q", checksum)
