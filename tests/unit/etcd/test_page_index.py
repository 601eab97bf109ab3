"""The page index against databases laid out in every way bbolt may, and against damaged ones."""

from __future__ import annotations

import contextlib
import random
import struct
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etcdguard.errors import Corruption
from etcdguard.etcd.bolt import BoltError
from etcdguard.etcd.mvcc import main_revision
from etcdguard.etcd.page_index import IndexOverflow, PageIndex, SnapshotPages
from tests.support.bolt_writer import PAGE, Shape, revision_key, with_trailer, write_database

U64 = struct.Struct(">Q")
META = {b"consistent_index": U64.pack(77), b"storageVersion": b"3.6.0"}


def index(
    data: bytes, *, pieces: list[int] | None = None, check_order: bool = False, db_bytes: int | None = None
) -> SnapshotPages:
    reader = PageIndex(check_order=check_order)
    at = 0
    for size in pieces or []:
        reader.update(data[at : at + size])
        at += size
    reader.update(data[at:])
    return reader.finish(db_bytes)


def revisions(count: int, value_bytes: int = 30) -> list[tuple[bytes, bytes]]:
    return [(revision_key(n, tombstone=n % 7 == 0), b"v" * value_bytes) for n in range(2, count + 2)]


shapes = st.builds(
    Shape,
    leaf_fanout=st.integers(1, 60),
    branch_fanout=st.integers(2, 9),
    stale_pages=st.integers(0, 9),
    seed=st.integers(0, 2**16),
    inline_meta=st.booleans(),
)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 400),
    st.integers(0, 900),
    shapes,
    st.lists(st.integers(1, 9000), max_size=30),
    st.booleans(),
)
def test_facts_are_exact_however_the_pages_lie_and_the_stream_is_cut(
    count: int, value_bytes: int, shape: Shape, pieces: list[int], check_order: bool
) -> None:
    database = write_database(revisions(count, value_bytes), META, shape)
    found = index(with_trailer(database), pieces=pieces, check_order=check_order, db_bytes=len(database))
    assert found.total_keys == count
    assert found.facts.revision == max(1, count + 1 if count else 1)
    assert found.facts.compact_revision == -1
    assert found.facts.consistent_index == 77
    assert found.facts.storage_version == "3.6.0"
    assert found.buckets == {"key": count, "meta": 2}
    assert found.db_bytes == len(database)


@given(
    st.integers(0, 2**64 - 400),
    st.lists(st.integers(1, 2**33), min_size=1, max_size=40),
    shapes,
    st.lists(st.integers(1, 9000), max_size=30),
)
def test_revisions_may_be_large_and_far_apart(
    first: int, steps: list[int], shape: Shape, pieces: list[int]
) -> None:
    ascending = list(accumulate(steps, initial=first))[1:]
    keys = [(revision_key(revision), b"v") for revision in ascending if revision < 2**64]
    found = index(write_database(keys, META, shape), pieces=pieces, check_order=True)
    assert found.total_keys == len(keys)
    assert found.facts.revision == max(1, main_revision(keys[-1][0], 0) if keys else 1)


def test_a_value_larger_than_the_stream_pieces_is_waited_for() -> None:
    database = write_database([(revision_key(5), b"x" * 300_000), (revision_key(6), b"y")], META)
    found = index(database, pieces=[100_000] * 3, check_order=True)
    assert (found.total_keys, found.facts.revision) == (2, 6)


def test_a_scheduled_compaction_counts_and_lifts_the_revision() -> None:
    meta = {**META, b"finishedCompactRev": revision_key(3), b"scheduledCompactRev": revision_key(9)}
    found = index(write_database(revisions(4), meta))
    assert (found.facts.compact_revision, found.facts.revision) == (9, 9)


def test_order_is_proven_within_and_across_leaves() -> None:
    within = revisions(10)
    within[3], within[4] = within[4], within[3]
    across = revisions(40)
    across = across[20:] + across[:20]
    for wrong in (within, across):
        database = write_database(wrong, META)
        assert index(database).total_keys == len(wrong)
        with pytest.raises(BoltError, match=r"out of order|does not follow"):
            index(database, check_order=True)


def test_a_page_used_twice_is_found() -> None:
    database = bytearray(write_database(revisions(60), META, Shape(seed=1, stale_pages=0)))
    for number in range(2, len(database) // PAGE):
        flags, count = struct.unpack_from("<HH", database, number * PAGE + 8)
        if flags == 1 and count > 1:
            second = number * PAGE + 16 + 16 + 8
            database[second : second + 8] = database[second - 16 : second - 8]
            break
    with pytest.raises(BoltError, match="two places"):
        index(bytes(database), check_order=True)


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 9000, b"SQLite format 3\0" * 5000])
def test_what_is_no_database_is_refused(data: bytes) -> None:
    with pytest.raises(BoltError, match="not an etcd snapshot"):
        index(data)


def test_a_database_cut_short_is_refused() -> None:
    database = write_database(revisions(100), META)
    with pytest.raises(BoltError, match=r"only \d+ bytes arrived|no page of a tree"):
        index(database[: len(database) - PAGE])


def test_another_bbolt_database_is_refused() -> None:
    database = write_database(revisions(1), META).replace(b"key", b"kez").replace(b"meta", b"mets")
    with pytest.raises(BoltError, match="no key and meta buckets"):
        index(database)


def test_a_child_that_is_no_page_and_a_circle_are_refused() -> None:
    database = write_database(revisions(200), META, Shape(stale_pages=0))
    root_child = next(
        number
        for number in range(2, len(database) // PAGE)
        if struct.unpack_from("<H", database, number * PAGE + 8)[0] == 1
    )
    for child in (10**6, 2**40, root_child):
        damaged = bytearray(database)
        struct.pack_into("<Q", damaged, root_child * PAGE + 16 + 8, child)
        with pytest.raises(BoltError, match=r"no page of a tree|circular|mixes"):
            index(bytes(damaged))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_is_refused_or_harmless_but_never_a_crash(data: st.DataObject) -> None:
    database = bytearray(write_database(revisions(120), META, data.draw(shapes)))
    for _ in range(data.draw(st.integers(1, 8))):
        database[data.draw(st.integers(0, len(database) - 1))] = data.draw(st.integers(0, 255))
    for check_order in (False, True):
        with contextlib.suppress(Corruption):
            index(bytes(database), check_order=check_order)


def test_look_alikes_are_remembered_only_within_the_budget() -> None:
    for inline_meta, budget in ((True, 0), (False, 10 * PAGE)):
        reader = PageIndex(budget=budget)
        reader.update(write_database(revisions(5), META, Shape(inline_meta=inline_meta, seed=3)))
        assert reader.finish().facts.consistent_index == 77
    reader = PageIndex(budget=0)
    reader.update(write_database(revisions(5), META, Shape(inline_meta=False, seed=3)))
    with pytest.raises(IndexOverflow, match="system bucket"):
        reader.finish()


def test_memory_stays_small_for_a_hostile_megabyte() -> None:
    # Every page claims the largest extent and the most elements.
    rng = random.Random(5)
    good = write_database(revisions(5), META)
    hostile = bytearray(good[: 2 * PAGE])
    for number in range(2, 256):
        hostile += struct.pack("<QHHI", number, rng.choice([1, 2]), 0xFFFF, 0xFFFFFFFF) + bytes(PAGE - 16)
    with pytest.raises(BoltError):
        index(bytes(hostile), check_order=True)
