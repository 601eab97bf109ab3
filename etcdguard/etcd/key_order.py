"""Proof that a snapshot's keys ascend, kept small while its pages stream past.

First and last key of every leaf are remembered (as two numbers each for revision keys, the millions; as bytes
for the few others), so that order across leaves can be checked in the walk that follows.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from etcdguard.etcd.bolt import ELEMENT_SIZE, PAGE_HEADER_SIZE, BoltError, Bucket

__all__ = ["KeyOrder"]

_POS_KSIZE = struct.Struct("<II")
_REVISION = struct.Struct(">QBQ")
_SEPARATOR = 0x5F

Walk = Callable[[int], Iterator[tuple[int, int, bool]]]


class KeyOrder:
    """Fed with every plausible leaf; judges only those that the walk reaches."""

    def __init__(self) -> None:
        self._bounds = tuple(array("Q") for _ in range(4))
        self._others: dict[int, tuple[bytes, bytes]] = {}
        self._unsound: dict[int, str] = {}
        self._waiting: dict[int, tuple[int, int, int, int]] = {}

    def advance(self, pages: int) -> None:
        """All pages below ``pages`` have passed."""
        for number in range(len(self._bounds[0]), pages):
            for column, value in zip(self._bounds, self._waiting.pop(number, (0, 0, 0, 0)), strict=True):
                column.append(value)

    def leaf(self, number: int, block: bytes, start: int, end: int, count: int) -> None:
        """Check one leaf by itself; what is wrong is held against it only if it proves reachable."""
        first = previous = b""
        room = end - start - PAGE_HEADER_SIZE - count * ELEMENT_SIZE
        for index in range(count):
            at = start + PAGE_HEADER_SIZE + index * ELEMENT_SIZE
            pos, size = _POS_KSIZE.unpack_from(block, at + 4)
            key = block[at + pos : at + pos + size]
            if at + pos + size > end or len(key) != size:
                self._unsound[number] = "an element points outside its page"
                return
            room -= size
            if room < 0:
                self._unsound[number] = "elements overlap"
                return
            if index == 0:
                first = key
            elif key <= previous:
                self._unsound[number] = "keys are out of order"
                return
            previous = key
        low, high = _revision(first), _revision(previous)
        if low is None or high is None:
            self._others[number] = (first, previous)
        else:
            self._waiting[number] = (*low, *high)

    def assert_reachable_once(
        self, root: Iterable[tuple[int, int, bool]], buckets: Iterable[Bucket], walk: Walk
    ) -> None:
        """Raise BoltError unless every tree is in order and no page belongs to two places."""
        used = bytearray(len(self._bounds[0]))
        self._tree(root, used)
        for bucket in buckets:
            if bucket.inline is not None:
                keys = bucket.inline.keys
                if any(a >= b for a, b in pairwise(keys)):
                    raise BoltError("keys of an inline bucket are out of order")
            else:
                self._tree(walk(bucket.root), used)

    def _tree(self, pages: Iterable[tuple[int, int, bool]], used: bytearray) -> None:
        previous: bytes | None = None
        for number, extent, is_leaf in pages:
            if number + extent > len(used) or any(used[number : number + extent]):
                raise BoltError(f"page {number} belongs to two places")
            used[number : number + extent] = b"\x01" * extent
            if not is_leaf:
                continue
            if number in self._unsound:
                raise BoltError(f"leaf page {number}: {self._unsound[number]}")
            low, high = self._ends(number)
            if not high:
                continue
            if previous is not None and low <= previous:
                raise BoltError(f"leaf page {number} does not follow the one before it")
            previous = high

    def _ends(self, number: int) -> tuple[bytes, bytes]:
        other = self._others.get(number)
        if other is not None:
            return other
        low_main, low_sub, high_main, high_sub = (column[number] for column in self._bounds)
        if high_main == 0:
            return b"", b""
        return _REVISION.pack(low_main, _SEPARATOR, low_sub), _REVISION.pack(high_main, _SEPARATOR, high_sub)


def _revision(key: bytes) -> tuple[int, int] | None:
    if len(key) in (17, 18) and key[8] == _SEPARATOR:
        main, _separator, sub = _REVISION.unpack_from(key)
        return main, sub
    return None
