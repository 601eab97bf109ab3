"""What a snapshot contains, read from its pages while they stream past.

A snapshot arrives in file order and is never on disk in the clear, so the B+trees cannot be walked while they
arrive: a page's parent may come after it, and a page that is free may hold stale bytes of any age. The index
therefore remembers a little of every plausible page and walks the trees once the stream has ended, from the
meta page down. Only what the walk reaches counts; the result is exact.

Memory: 8 bytes a page and 4 more for each page that a branch refers to, so at most 3 MiB per GiB of database;
44 bytes a page when key order is checked too.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from etcdguard.etcd.bolt import (
    BRANCH,
    ELEMENT_SIZE,
    LEAF,
    PAGE_HEADER_SIZE,
    BoltError,
    Bucket,
    Leaf,
    Meta,
    first_meta,
    parse_bucket,
    parse_leaf,
)
from etcdguard.etcd.key_order import KeyOrder
from etcdguard.etcd.mvcc import StoreFacts, main_revision, revision_key_size, store_facts

__all__ = ["IndexOverflow", "PageIndex", "SnapshotPages"]

_HEAD_BYTES = 2 * 65536
_MAX_EXTENT = 64 * 1024 * 1024
"""A leaf with its overflow pages; etcd's largest request is far smaller."""

_MAX_SYSTEM_PAGE = _HEAD_BYTES
"""No leaf of the root bucket or of ``meta`` comes near; larger look-alikes are not worth a copy."""

_MOST_OVERFLOW = (1 << 14) - 1
"""Pages behind a page; with pages of 4 KiB and more, no more fit into ``_MAX_EXTENT``."""

_MOST_VISITS = 2
"""Of a page: to count its elements, and again for the newest revision or for what ``meta`` says."""

_POS_KSIZE = struct.Struct("<II")


class IndexOverflow(BoltError):
    """The root page came so late that too many look-alikes had to be remembered; the next one may fit."""


@dataclass(frozen=True)
class SnapshotPages:
    """What the walk found. ``buckets`` maps a bucket's name to its number of elements."""

    page_size: int
    db_bytes: int
    facts: StoreFacts
    total_keys: int
    buckets: dict[str, int]


class _Revisions:
    """A revision a page, 0 for none: 4 bytes each while all lie close together, as they usually do."""

    def __init__(self) -> None:
        self._cells = array("I")
        self._base: int | None = None

    def extend(self, revisions: list[int]) -> None:
        if self._base is None and any(revisions):
            self._base = max(0, next(filter(None, revisions)) - (1 << 31)) - 1
        base = self._base or 0
        try:
            self._cells.extend(array(self._cells.typecode, [each and each - base for each in revisions]))
        except OverflowError:
            self._cells = array("Q", (self[number] for number in range(len(self._cells))))
            self._base = 0
            self._cells.extend(array("Q", revisions))

    def __getitem__(self, number: int) -> int:
        cell = self._cells[number]
        return cell and cell + (self._base or 0)


class PageIndex:
    """Push-style: ``update`` with the stream's bytes in order (the trailer may follow), then ``finish``.

    ``check_order`` also proves that keys ascend within and across leaf pages and that no page is used twice;
    it costs time per key and is meant for verification. ``budget`` bounds the bytes of look-alike root pages
    remembered before the real one arrives.

    Raises BoltError (exit 13) for bytes that are no sound database.
    """

    def __init__(self, *, check_order: bool = False, budget: int = 16 * 1024 * 1024) -> None:
        self._meta: Meta | None = None
        self._received = 0
        # The beginning of a page that came in two pieces, and how many bytes make it whole.
        self._held = bytearray()
        self._needed = 0
        # A word a page: bits 0-1 its kind (BRANCH, LEAF or 0), 2-17 its elements, 18-31 its overflow pages.
        self._words = array("I")
        self._last = _Revisions()
        self._children: dict[int, array[int]] = {}
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0
        self._budget = budget
        self._root_known = False
        self._elements = 0
        self._visited = 0
        self._order = KeyOrder() if check_order else None

    def update(self, data: bytes) -> None:
        """Take the next bytes of the stream; pieces of about 1 MiB are quickest."""
        self._received += len(data)
        at = 0
        while at < len(data):
            if not self._held:
                block, begin, at = data, at, len(data)
            else:
                missing = self._needed - len(self._held)
                self._held += data[at : at + missing]
                at += missing
                if len(self._held) < self._needed:
                    return
                block, begin = bytes(self._held), 0
            self._held = bytearray(block[begin + self._consume(block, begin) :])

    def finish(self, db_bytes: int | None = None) -> SnapshotPages:
        """Walk the trees; ``db_bytes`` is the database's size where a trailer followed it."""
        size = self._received if db_bytes is None else db_bytes
        rest = bytes(self._held)
        if self._meta is None:
            self._meta = first_meta(rest)
        meta = self._meta
        self._consume(rest[: max(0, len(rest) - (self._received - size))], 0, final=True)
        if meta.high_water * meta.page_size > size:
            raise BoltError(f"the database uses {meta.high_water} pages but only {size} bytes arrived")
        root = self._small_tree(meta.root)
        buckets = {name: parse_bucket(value) for name, value, is_bucket in _elements(root) if is_bucket}
        counts = {name.decode("utf-8", "backslashreplace"): self._count(b) for name, b in buckets.items()}
        if self._order is not None:
            self._order.assert_reachable_once(self._walk_pages(meta.root), buckets.values(), self._walk_pages)
        revisions = buckets.get(b"key")
        small = buckets.get(b"meta")
        if revisions is None or small is None:
            raise BoltError("not an etcd database: no key and meta buckets")
        facts = store_facts(self._bucket_elements(small), self._newest_revision(revisions))
        return SnapshotPages(meta.page_size, size, facts, counts["key"], counts)

    # -- while the stream passes -------------------------------------------------------------------------

    def _consume(self, block: bytes, begin: int, *, final: bool = False) -> int:
        """Look at the whole pages in ``block`` from ``begin`` on; returns how many bytes they have.

        The next page needs more than are left, and says how many, unless these are the ``final`` ones.
        """
        if self._meta is None:
            self._needed = _HEAD_BYTES
            if len(block) - begin < _HEAD_BYTES:
                return 0
            self._meta = first_meta(block)
        size = self._needed = self._meta.page_size
        pages = (len(block) - begin) // size
        first = len(self._words)
        words64 = memoryview(block)[begin : begin + pages * size].cast("Q")
        ids, words = words64[0 :: size // 8].tolist(), words64[1 :: size // 8].tolist()
        last = [0] * pages
        for index in range(pages):
            word = words[index]
            words[index] = 0
            flags = word & 0xFFFF
            if ids[index] != first + index or flags not in (LEAF, BRANCH):
                continue
            overflow = word >> 32
            start = begin + index * size
            end = start + size * (1 + overflow)
            if overflow > _MOST_OVERFLOW or end - start > _MAX_EXTENT:
                continue
            if end > len(block):
                if final:
                    continue
                self._needed = end - start
                pages = index  # what follows comes again
                break
            count = (word >> 16) & 0xFFFF
            if start + PAGE_HEADER_SIZE + count * ELEMENT_SIZE > end:
                continue
            self._elements += count
            if self._elements * ELEMENT_SIZE > self._received:
                raise BoltError("the pages claim more elements than there is room for: they overlap")
            words[index] = word >> 14 | flags
            if flags == BRANCH:
                self._branch(first + index, words64[(start - begin) // 8 : (end - begin) // 8], count)
            else:
                last[index] = self._leaf(first + index, block, start, end, count)
        self._words.extend(array("I", words[:pages]))
        self._last.extend(last[:pages])
        if self._order is not None:
            self._order.advance(len(self._words))
        return pages * size

    def _branch(self, number: int, page: memoryview, count: int) -> None:
        # Element: pos u32 | ksize u32 | child page id u64; the second word of each pair is the child.
        children = page[3 : 3 + 2 * count : 2].tolist()
        if children:
            with suppress(OverflowError):  # no database has such a page: it is stale or damaged
                self._children[number] = array("I", children)

    def _leaf(self, number: int, block: bytes, start: int, end: int, count: int) -> int:
        """Remember what the walk may ask of this leaf; returns its newest main revision, or 0."""
        if count == 0:
            return 0
        at = start + PAGE_HEADER_SIZE + (count - 1) * ELEMENT_SIZE
        pos, key_size = _POS_KSIZE.unpack_from(block, at + 4)
        key_at = at + pos
        revision = 0
        if key_at + key_size <= end and revision_key_size(block, key_at, key_size):
            revision = main_revision(block, key_at)
        elif not self._root_known and end - start <= _MAX_SYSTEM_PAGE:
            self._keep(number, block[start:end])
        if self._order is not None:
            self._order.leaf(number, block, start, end, count)
        return revision

    def _keep(self, number: int, page: bytes) -> None:
        self._kept[number] = page
        self._kept_bytes += len(page)
        if self._meta is not None and number == self._meta.root:
            self._root_arrived(parse_leaf(page), number)
        elif self._kept_bytes > self._budget:
            oldest = next(iter(self._kept))
            self._kept_bytes -= len(self._kept.pop(oldest))

    def _root_arrived(self, root: Leaf, number: int) -> None:
        """The usual case: the root bucket is one leaf and meta inline in it; every look-alike can go."""
        for name, value, is_bucket in _elements([root]):
            if name == b"meta" and is_bucket and parse_bucket(value).inline is not None:
                self._kept = {number: self._kept[number]}
                self._kept_bytes = len(self._kept[number])
                self._root_known = True

    # -- once it has passed ------------------------------------------------------------------------------

    def _flags(self, number: int) -> int:
        flags = self._words[number] & 3 if number < len(self._words) else 0
        if flags == LEAF or (flags == BRANCH and number in self._children):
            return flags
        raise BoltError(f"page {number} is referred to but is no page of a tree")

    def _leaf_runs(self, root: int) -> Iterator[Sequence[int]]:
        """Leaf page numbers under ``root`` in key order, siblings together."""
        stack: list[Sequence[int]] = [[root]]
        while stack:
            siblings = stack.pop()
            self._visited += len(siblings)
            if self._visited > _MOST_VISITS * len(self._words):
                raise BoltError("the trees refer to more pages than there are: one is circular, or shared")
            flags = {self._flags(number) for number in siblings}
            if flags == {LEAF}:
                yield siblings
            elif flags == {BRANCH}:
                stack.extend(self._children[number] for number in reversed(siblings))
            else:
                raise BoltError("a tree mixes branch and leaf pages at one depth")

    def _walk_pages(self, root: int) -> Iterator[tuple[int, int, bool]]:
        """Every page under ``root``, in key order: number, pages it occupies, whether it is a leaf."""
        stack = [root]
        while stack:
            number = stack.pop()
            leaf = self._flags(number) == LEAF
            yield number, 1 + (self._words[number] >> 18), leaf
            if not leaf:
                stack.extend(reversed(self._children[number]))

    def _count(self, bucket: Bucket) -> int:
        if bucket.inline is not None:
            return len(bucket.inline.keys)
        words = self._words
        return sum((words[number] >> 2) & 0xFFFF for run in self._leaf_runs(bucket.root) for number in run)

    def _newest_revision(self, bucket: Bucket) -> int:
        if bucket.inline is not None:
            keys = bucket.inline.keys
            return main_revision(keys[-1], 0) if keys and len(keys[-1]) >= 8 else 0
        newest = 0
        for run in self._leaf_runs(bucket.root):
            newest = self._last[run[-1]]
        return newest

    def _bucket_elements(self, bucket: Bucket) -> dict[bytes, bytes]:
        leaves = [bucket.inline] if bucket.inline is not None else self._small_tree(bucket.root)
        return {name: value for name, value, _ in _elements(leaves)}

    def _small_tree(self, root: int) -> list[Leaf]:
        leaves = []
        for run in self._leaf_runs(root):
            for number in run:
                page = self._kept.get(number)
                if page is None:
                    raise IndexOverflow(
                        f"page {number} of a system bucket passed before it was known to matter"
                    )
                leaves.append(parse_leaf(page))
        return leaves


def _elements(leaves: list[Leaf]) -> Iterator[tuple[bytes, bytes, bool]]:
    for leaf in leaves:
        yield from zip(leaf.keys, leaf.values, leaf.is_bucket, strict=True)
