"""bbolt's pages and etcd's records in them, one at a time: what is read, and why the rest is refused."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from etcdguard.etcd.bolt import BoltError, Bucket, Leaf, Meta, first_meta, parse_bucket, parse_leaf
from etcdguard.etcd.mvcc import NEVER_COMPACTED, StoreFacts, main_revision, revision_key_size, store_facts

HINT = "take a new backup from another member and verify it"
PAGE = 4096


def told(error: BoltError) -> str:
    assert error.hint == HINT
    return error.message


# -- pages -------------------------------------------------------------------------------------------------


def meta_page(*, root: int = 7, txid: int = 9, page_size: int = PAGE, high_water: int = 12) -> bytes:
    body = struct.pack("<IIIIQQQQQ", 0xED0CDAED, 2, page_size, 0, root, 0, 0, high_water, txid)
    checksum = 0xCBF29CE484222325
    for byte in body:
        checksum = ((checksum ^ byte) * 0x100000001B3) % 2**64
    return struct.pack("<QHHI", 0, 4, 0, 0) + body + struct.pack("<Q", checksum)


def leaf(elements: Mapping[bytes, bytes], *, flags: int = 2, bucket: bool = False) -> bytes:
    heads, data = b"", b""
    for index, (key, value) in enumerate(elements.items()):
        at = 16 * (len(elements) - index) + len(data)
        heads += struct.pack("<IIII", int(bucket), at, len(key), len(value))
        data += key + value
    return struct.pack("<QHHI", 3, flags, len(elements), 0) + heads + data


def test_the_meta_page_of_the_later_transaction_counts() -> None:
    older, newer = meta_page(txid=8), meta_page(txid=9, root=5)
    for first, second in ((older, newer), (newer, older)):
        head = first.ljust(PAGE, b"\0") + second.ljust(PAGE, b"\0")
        assert first_meta(head) == Meta(PAGE, 5, 12, 9)


@pytest.mark.parametrize("size", [512, 1024, 4096, 16384, 65536])
def test_the_second_meta_page_is_found_where_its_own_page_size_puts_it(size: int) -> None:
    second = meta_page(page_size=size)
    assert first_meta(bytes(size) + second) == Meta(size, 7, 12, 9)


@pytest.mark.parametrize("size", [0, 256, 3000, 2**17, 2**31])
def test_a_page_size_that_bbolt_never_has_is_no_meta_page(size: int) -> None:
    """Its checksum is right: somebody meant it, and reading by it would take any memory."""
    with pytest.raises(BoltError) as refusal:
        first_meta(meta_page(page_size=size).ljust(PAGE, b"\0"))

    assert told(refusal.value) == "not an etcd snapshot: no valid bbolt meta page"


@pytest.mark.parametrize("at", [16, 20, 24, 32, 40, 56, 64, 72])
def test_any_changed_byte_of_a_meta_page_makes_it_none(at: int) -> None:
    damaged = bytearray(meta_page())
    damaged[at] ^= 1
    with pytest.raises(BoltError, match="no valid bbolt meta page"):
        first_meta(bytes(damaged))


def test_a_leaf_page_comes_back_as_it_was_written() -> None:
    assert parse_leaf(leaf({b"a": b"1", b"bc": b""})) == Leaf((b"a", b"bc"), (b"1", b""), (False, False))
    assert parse_leaf(leaf({})) == Leaf((), (), ())
    assert parse_leaf(leaf({b"key": bytes(16)}, bucket=True)).is_bucket == (True,)


def edited(page: bytes, at: int, form: str, value: int) -> bytes:
    changed = bytearray(page)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


ONE = leaf({b"key": b"value"})
TWO = leaf({b"key": b"value", b"kez": b"other"})


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (b"", "a leaf page is cut short"),
        (ONE[:15], "a leaf page is cut short"),
        (leaf({}, flags=1), "page flags 0x1 where a leaf page belongs"),
        (leaf({}, flags=6), "page flags 0x6 where a leaf page belongs"),
        (edited(ONE, 10, "<H", 2), "a leaf page claims 2 elements, more than it has room for"),
        (ONE[:31], "a leaf page claims 1 elements, more than it has room for"),
        (ONE[:-1], "a leaf element points outside its page"),
        (edited(ONE, 20, "<I", 17), "a leaf element points outside its page"),
        (edited(ONE, 24, "<I", 2**31), "a leaf element points outside its page"),
        (edited(TWO, 28, "<I", 13), "the elements of a leaf page overlap"),
    ],
    ids=["empty", "cut", "branch", "odd", "count", "heads", "data", "offset", "length", "shared"],
)
def test_why_a_leaf_page_is_refused(page: bytes, message: str) -> None:
    with pytest.raises(BoltError) as refusal:
        parse_leaf(page)

    assert told(refusal.value) == message


def test_a_bucket_is_a_page_elsewhere_or_inline() -> None:
    assert parse_bucket(struct.pack("<QQ", 5, 0)) == Bucket(5, None)
    inline = parse_bucket(struct.pack("<QQ", 0, 0) + ONE)
    assert inline == Bucket(0, Leaf((b"key",), (b"value",), (False,)))
    with pytest.raises(BoltError) as refusal:
        parse_bucket(bytes(15))

    assert told(refusal.value) == "a bucket header is cut short"


# -- etcd's records ----------------------------------------------------------------------------------------


def revision(main: int) -> bytes:
    return struct.pack(">QcQ", main, b"_", 0)


@pytest.mark.parametrize(
    ("meta", "newest", "facts"),
    [
        ({}, 0, StoreFacts(1, NEVER_COMPACTED, 0, None)),
        ({}, 7, StoreFacts(7, NEVER_COMPACTED, 0, None)),
        ({b"finishedCompactRev": revision(4)}, 7, StoreFacts(7, 4, 0, None)),
        (
            {b"finishedCompactRev": revision(4), b"scheduledCompactRev": revision(9)},
            7,
            StoreFacts(9, 9, 0, None),
        ),
        ({b"consistent_index": struct.pack(">Q", 77)}, 1, StoreFacts(1, NEVER_COMPACTED, 77, None)),
        ({b"storageVersion": b"3.6.0"}, 1, StoreFacts(1, NEVER_COMPACTED, 0, "3.6.0")),
        ({b"storageVersion": b"\xff"}, 1, StoreFacts(1, NEVER_COMPACTED, 0, "\\xff")),
    ],
    ids=["nothing", "keys", "compacted", "scheduled", "index", "version", "odd version"],
)
def test_what_a_store_says_of_itself(meta: dict[bytes, bytes], newest: int, facts: StoreFacts) -> None:
    assert store_facts(meta, newest) == facts


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({b"consistent_index": b"1234567"}, "consistent_index has 7 bytes instead of 8"),
        ({b"consistent_index": b""}, "consistent_index has 0 bytes instead of 8"),
        ({b"finishedCompactRev": revision(4)[:16]}, "finishedCompactRev is not a revision"),
        ({b"scheduledCompactRev": b""}, "scheduledCompactRev is not a revision"),
    ],
)
def test_why_a_store_is_refused(meta: dict[bytes, bytes], message: str) -> None:
    with pytest.raises(BoltError) as refusal:
        store_facts(meta, 1)

    assert told(refusal.value) == message


def test_what_a_revision_key_looks_like() -> None:
    key = revision(2**63)
    assert main_revision(b"x" + key, 1) == 2**63
    assert revision_key_size(key, 0, 17)
    assert revision_key_size(key + b"t", 0, 18)
    assert not revision_key_size(key, 0, 16)
    assert not revision_key_size(key + b"tt", 0, 19)
    assert not revision_key_size(key.replace(b"_", b"-"), 0, 17)
