"""bbolt files made to cost their reader as much as possible: a megabyte each, with sound meta pages.

``python -m tests.support.hostile_bolt NAME`` reads one under limits and prints what came of it: see ``main``.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from etcdguard.errors import Corruption
from etcdguard.etcd.page_index import PageIndex

__all__ = ["CPU_SECONDS", "HOSTILE", "MEMORY", "SIZE"]

SIZE = 1 << 20
MEMORY = 200 * 1000 * 1000
"""Bytes of address space that reading one may take."""
CPU_SECONDS = 60
"""Only against a hang; a second or two is what the slowest takes."""
_PAGE = 512
_PAGES = SIZE // _PAGE
_BRANCH, _LEAF = 1, 2
_BUCKET = 1
_SYSTEM_PAGES = 256
"""128 KiB: no larger page is kept for what it may mean."""
_COUNT, _HALF = 4_000, 60_000


def _meta(number: int, root: int) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, _PAGE, 0, root, 0, 0, _PAGES, 9 - number)
    checksum = 0xCBF29CE484222325
    for byte in body:
        checksum = ((checksum ^ byte) * 0x100000001B3) % 2**64
    return (struct.pack("<QHHI", number, 4, 0, 0) + body + struct.pack("<Q", checksum)).ljust(_PAGE, b"\0")


def _header(number: int, flags: int, count: int, pages: int = _PAGES) -> bytes:
    """Of a page that claims everything up to the end of the file, or so many pages."""
    return struct.pack("<QHHI", number, flags, count, min(pages, _PAGES - number) - 1)


def _file(root: int, pages: bytes) -> bytes:
    return (_meta(0, root) + _meta(1, root) + pages).ljust(SIZE, b"\0")


def _most(number: int) -> int:
    return min(0xFFFF, ((_PAGES - number) * _PAGE - 16) // 16)


def _overlapping(flags: int) -> bytes:
    """Every page is a tree page with as many elements as there are bytes behind it."""
    pages = [_header(number, flags, _most(number)).ljust(_PAGE, b"\0") for number in range(2, _PAGES)]
    return _file(2, b"".join(pages))


def _overlapping_elements(key: int, value: int) -> bytes:
    """The root leaf's elements all have the same bytes for key and value."""
    heads = b"".join(struct.pack("<IIII", 0, _COUNT * 16 - index * 16, key, value) for index in range(_COUNT))
    return _file(2, _header(2, _LEAF, _COUNT, _SYSTEM_PAGES) + heads)


def _inline_bucket() -> bytes:
    """The root's only bucket is inline, and its elements share their bytes."""
    inner = struct.pack("<QHHI", 0, _LEAF, _COUNT, 0)
    inner += b"".join(struct.pack("<IIII", 0, _COUNT * 16 - i * 16, 8, _HALF) for i in range(_COUNT))
    value = struct.pack("<QQ", 0, 0) + inner.ljust(_SYSTEM_PAGES * _PAGE - 100, b"\2")
    element = struct.pack("<IIII", _BUCKET, 16, 4, len(value))
    return _file(2, _header(2, _LEAF, 1, _SYSTEM_PAGES) + element + b"meta" + value)


def _many_buckets() -> bytes:
    """The root names 3000 buckets, and all of them are one large tree."""
    count, used = 3_000, 2 + _SYSTEM_PAGES
    data_at = 16 + count * 16
    names = b"".join(struct.pack(">I", index) + struct.pack("<QQ", used, 0) for index in range(count))
    heads = b"".join(
        struct.pack("<IIII", _BUCKET, data_at + 20 * i - (16 + 16 * i), 4, 16) for i in range(count)
    )
    root = (_header(2, _LEAF, count, _SYSTEM_PAGES) + heads + names).ljust((used - 2) * _PAGE, b"\0")
    children = list(range(used + 60, _PAGES))
    branch = struct.pack("<QHHI", used, _BRANCH, len(children), 59)
    branch += b"".join(struct.pack("<IIQ", 0, 0, child) for child in children)
    leaves = b"".join(struct.pack("<QHHI", n, _LEAF, 0, 0).ljust(_PAGE, b"\0") for n in children)
    return _file(2, root + branch.ljust(60 * _PAGE, b"\0") + leaves)


def _doubling() -> bytes:
    """Each branch refers twice to the next: 2 to the 2000 paths."""
    pages = []
    for number in range(2, _PAGES - 1):
        children = b"".join(struct.pack("<IIQ", 16, 0, number + 1) for _ in range(2))
        pages.append((struct.pack("<QHHI", number, _BRANCH, 2, 0) + children).ljust(_PAGE, b"\0"))
    return _file(2, b"".join(pages))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "overlapping branches": lambda: _overlapping(_BRANCH),
    "overlapping leaves": lambda: _overlapping(_LEAF),
    "overlapping keys": lambda: _overlapping_elements(_HALF, 0),
    "overlapping values": lambda: _overlapping_elements(8, _HALF),
    "a root as large as the file": lambda: _file(2, _header(2, _LEAF, 30_000)),
    "inline bucket": _inline_bucket,
    "many buckets": _many_buckets,
    "doubling branches": _doubling,
}
"""By what is wrong with them."""


def main() -> None:
    """Print as JSON what reading ``sys.argv[1]`` with and without the check of key order came to.

    A reader that wants more than ``MEMORY`` dies of a MemoryError.
    """
    data = HOSTILE[sys.argv[1]]()
    before = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (before + MEMORY, before + MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    began = time.process_time()
    messages = []
    for check_order in (False, True):
        index = PageIndex(check_order=check_order, budget=256 * 1024 * 1024)
        try:
            index.update(data)
            index.finish()
        except Corruption as error:
            messages.append(error.message)
    print(json.dumps({"messages": messages, "cpu_seconds": time.process_time() - began}))


if __name__ == "__main__":
    main()
