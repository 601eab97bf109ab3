"""Leaves that lie about their elements, and inline buckets out of order."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import pytest

from etcdguard.etcd.bolt import ELEMENT_SIZE, PAGE_HEADER_SIZE, BoltError, Bucket, Leaf
from etcdguard.etcd.key_order import KeyOrder

SIZE = 256


def leaf(*keys: bytes, pos: int = 0, size: int = 0) -> bytes:
    """A page of these keys; the last element's place and size are off by so much."""
    elements, data = b"", b""
    for number, key in enumerate(keys):
        at = (len(keys) - number) * ELEMENT_SIZE + len(data)
        off = number == len(keys) - 1
        elements += struct.pack("<IIII", 0, at + pos * off, len(key) + size * off, 0)
        data += key
    return (bytes(PAGE_HEADER_SIZE) + elements + data).ljust(SIZE, b"\0")


def judged(page: bytes, count: int, buckets: Sequence[Bucket] = ()) -> None:
    """As page 0, which the walk reaches."""

    def walk(root: int) -> Iterator[tuple[int, int, bool]]:
        raise AssertionError("these buckets have no pages")

    order = KeyOrder()
    order.leaf(0, page, 0, SIZE, count)
    order.advance(1)
    order.assert_reachable_once([(0, 1, True)], buckets, walk)


def test_a_sound_leaf() -> None:
    judged(leaf(b"auth", b"key", b"meta"), 3)


@pytest.mark.parametrize(
    ("page", "count", "why"),
    [
        (leaf(b"auth", b"key", pos=SIZE), 2, "an element points outside its page"),
        (leaf(b"auth", b"key", size=SIZE), 2, "an element points outside its page"),
        (leaf(b"a" * 150, b"b", pos=-100, size=150), 2, "elements overlap"),
        (leaf(b"key", b"auth"), 2, "keys are out of order"),
        (leaf(b"key", b"key"), 2, "keys are out of order"),
    ],
    ids=["too far", "too long", "overlapping", "descending", "twice"],
)
def test_a_leaf_that_is_not(page: bytes, count: int, why: str) -> None:
    with pytest.raises(BoltError, match=why):
        judged(page, count)


@pytest.mark.parametrize(
    ("keys", "sound"), [((b"a", b"b"), True), ((), True), ((b"b", b"a"), False), ((b"a", b"a"), False)]
)
def test_an_inline_bucket(keys: tuple[bytes, ...], sound: bool) -> None:
    bucket = Bucket(0, Leaf(keys, keys, (False,) * len(keys)))
    if sound:
        judged(leaf(b"auth"), 1, [bucket])
    else:
        with pytest.raises(BoltError, match="keys of an inline bucket are out of order"):
            judged(leaf(b"auth"), 1, [bucket])
