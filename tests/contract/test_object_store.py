"""The ObjectStore contract, over every implementation: memory, file, two real S3 servers, and retries."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from etcdguard.errors import EtcdGuardError, ObjectExists, ObjectNotFound, RepositoryError
from etcdguard.storage.arguments import PIECE_BYTES, RESERVED
from etcdguard.storage.base import ObjectInfo, RepositoryStore


def read(store: RepositoryStore, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join(store.get(key, offset=offset, length=length))


def keys(store: RepositoryStore, prefix: str = "") -> list[str]:
    return [info.key for info in store.list(prefix)]


# put, get, head


def test_what_was_put_is_read_back(store: RepositoryStore) -> None:
    store.put("prod/backups/a/manifest.json", b"{}")
    assert read(store, "prod/backups/a/manifest.json") == b"{}"
    assert store.head("prod/backups/a/manifest.json") == ObjectInfo("prod/backups/a/manifest.json", 2)


def test_an_empty_object_is_an_object(store: RepositoryStore) -> None:
    store.put("empty", b"")
    assert read(store, "empty") == b""
    assert read(store, "empty", 0, 5) == b""
    assert store.head("empty").size == 0
    assert list(store.list("")) == [ObjectInfo("empty", 0)]


def test_a_second_put_replaces_the_first(store: RepositoryStore) -> None:
    store.put("a", b"a longer first version")
    store.put("a", b"second")
    assert read(store, "a") == b"second"
    assert list(store.list("a")) == [ObjectInfo("a", 6)]


def test_large_objects_come_in_bounded_pieces(store: RepositoryStore) -> None:
    data = secrets.token_bytes(2 * PIECE_BYTES + 7)
    store.put("large", data)
    pieces = list(store.get("large"))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE_BYTES


@pytest.mark.parametrize(
    ("offset", "length", "wanted"),
    [
        (0, None, b"0123456789"),
        (0, 10, b"0123456789"),
        (0, 1, b"0"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (9, 1, b"9"),
        (9, 100, b"9"),
        (0, 0, b""),
        (4, 0, b""),
        (10, None, b""),
        (10, 5, b""),
        (11, None, b""),
        (1000, 3, b""),
    ],
)
def test_ranges(store: RepositoryStore, offset: int, length: int | None, wanted: bytes) -> None:
    store.put("digits", b"0123456789")
    assert read(store, "digits", offset, length) == wanted


@pytest.mark.parametrize(("offset", "length"), [(-1, None), (0, -1)])
def test_negative_ranges_are_refused(store: RepositoryStore, offset: int, length: int | None) -> None:
    store.put("digits", b"0123456789")
    with pytest.raises(ValueError, match="negative"):
        read(store, "digits", offset, length)


@pytest.mark.parametrize(("offset", "length"), [(0, None), (5, None), (0, 0), (2, 3)])
def test_a_missing_object_is_not_an_empty_one(
    store: RepositoryStore, offset: int, length: int | None
) -> None:
    with pytest.raises(ObjectNotFound) as caught:
        read(store, "missing", offset, length)
    assert caught.value.hint
    with pytest.raises(ObjectNotFound):
        store.head("missing")


def test_a_folder_is_not_an_object(store: RepositoryStore) -> None:
    store.put("folder/a", b"1")
    with pytest.raises(ObjectNotFound):
        store.head("folder")
    with pytest.raises(ObjectNotFound):
        read(store, "folder")
    with pytest.raises(ObjectNotFound):
        store.head("folder/a/b")


# create-only


def test_create_only_writes_a_new_key_and_refuses_a_taken_one(store: RepositoryStore) -> None:
    store.put("once", b"first", create_only=True)
    with pytest.raises(ObjectExists) as caught:
        store.put("once", b"other", create_only=True)
    assert caught.value.hint
    assert read(store, "once") == b"first"


def test_create_only_refuses_even_the_same_bytes(store: RepositoryStore) -> None:
    store.put("once", b"first", create_only=True)
    with pytest.raises(ObjectExists):
        store.put("once", b"first", create_only=True)


def test_of_eight_creators_exactly_one_wins(store: RepositoryStore) -> None:
    barrier = Barrier(8)

    def create(number: int) -> bool:
        barrier.wait()
        try:
            store.put("prize", b"writer %d" % number, create_only=True)
        except ObjectExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert read(store, "prize") == b"writer %d" % won.index(True)


# list


def test_list_is_in_key_order_and_complete(store: RepositoryStore) -> None:
    wanted = sorted(["b", "a/z", "a/b/c", "a-b", "a.txt", "a b", "A", "a/b.c", "0", "á", "日本/語", "z~"])
    for key in reversed(wanted):
        store.put(key, key.encode())
    assert list(store.list("")) == [ObjectInfo(key, len(key.encode())) for key in wanted]


def test_prefixes_need_not_be_folders(store: RepositoryStore) -> None:
    for key in ("prod/a", "prod/ab", "prod/b", "prod-2/a", "other"):
        store.put(key, b"")
    assert keys(store, "prod") == ["prod-2/a", "prod/a", "prod/ab", "prod/b"]
    assert keys(store, "prod/") == ["prod/a", "prod/ab", "prod/b"]
    assert keys(store, "prod/a") == ["prod/a", "prod/ab"]
    assert keys(store, "prod/ab/") == []
    assert keys(store, "nothing/at/all") == []


def test_prefixes_are_not_patterns(store: RepositoryStore) -> None:
    for key in ("a*c", "abc", "a[b]c", "a%2Fc", "a+c", "a c", "a&c", "a?c", "a#c"):
        store.put(key, b"")
    assert keys(store, "a*") == ["a*c"]
    assert keys(store, "a[b]") == ["a[b]c"]
    assert keys(store, "a%2F") == ["a%2Fc"]
    assert keys(store, "a+") == ["a+c"]
    assert len(keys(store, "a")) == 9


def test_more_objects_than_a_page_holds(store: RepositoryStore) -> None:
    wanted = [f"many/{number:04d}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), wanted))
    assert keys(store, "many/") == wanted


# delete


def test_delete_removes_and_repeats(store: RepositoryStore) -> None:
    store.put("folder/a", b"1")
    store.put("folder/b", b"1")
    store.delete("folder/a")
    store.delete("folder/a")
    store.delete("never/was/there")
    assert keys(store) == ["folder/b"]
    with pytest.raises(ObjectNotFound):
        store.head("folder/a")
    store.put("folder/a", b"again", create_only=True)
    assert read(store, "folder/a") == b"again"


# keys


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "../a",
        "a/.",
        "a\nb",
        "a\x00b",
        f"{RESERVED}/x",
        "x" * 256,
    ],
)
def test_keys_that_some_store_could_not_hold_are_refused_by_all(store: RepositoryStore, key: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b"1"),
        lambda: list(store.get(key)),
        lambda: store.head(key),
        lambda: store.delete(key),
        lambda: store.multipart(key),
    ]
    for call in calls:
        with pytest.raises(RepositoryError) as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFound)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("prefix", ["/", "/etc/", "../", "a/../", "a//"])
def test_prefixes_that_leave_the_repository_are_refused(store: RepositoryStore, prefix: str) -> None:
    with pytest.raises(RepositoryError):
        list(store.list(prefix))
    with pytest.raises(RepositoryError):
        store.stale_uploads(prefix)


# multipart


def part_of(store: RepositoryStore, key: str, filler: bytes) -> bytes:
    """The smallest part that may stand before another."""
    writer = store.multipart(key)
    writer.abort()
    return filler * writer.min_part_size


def test_parts_in_any_order_make_the_object(store: RepositoryStore) -> None:
    first, second = part_of(store, "big", b"1"), part_of(store, "big", b"2")
    writer = store.multipart("big")
    writer.write_part(3, b"tail")
    writer.write_part(1, first)
    assert keys(store) == []
    writer.write_part(2, second)
    assert writer.complete() == ObjectInfo("big", len(first) + len(second) + 4)
    assert read(store, "big") == first + second + b"tail"
    assert store.stale_uploads("") == []


def test_parts_from_several_threads(store: RepositoryStore) -> None:
    parts = {number: part_of(store, "big", b"%d" % number) for number in range(1, 5)}
    writer = store.multipart("big")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda item: writer.write_part(*item), parts.items()))
    writer.complete()
    assert read(store, "big") == b"".join(parts.values())


def test_a_part_written_again_replaces_the_first(store: RepositoryStore) -> None:
    writer = store.multipart("big")
    writer.write_part(1, b"a longer first attempt")
    writer.write_part(1, b"second")
    assert writer.complete().size == 6
    assert read(store, "big") == b"second"


def test_complete_and_abort_repeat(store: RepositoryStore) -> None:
    writer = store.multipart("big")
    writer.write_part(1, b"data")
    info = writer.complete()
    assert writer.complete() == info
    writer.abort()
    assert read(store, "big") == b"data"


def test_an_upload_may_be_empty_but_not_without_parts(store: RepositoryStore) -> None:
    writer = store.multipart("big")
    with pytest.raises(ValueError, match="without a part"):
        writer.complete()
    writer.write_part(1, b"")
    assert writer.complete().size == 0
    assert read(store, "big") == b""


@pytest.mark.parametrize("number", [0, -1, 10_001])
def test_part_numbers_have_limits(store: RepositoryStore, number: int) -> None:
    writer = store.multipart("big")
    with pytest.raises(ValueError, match="part number"):
        writer.write_part(number, b"x")
    writer.abort()


def test_abort_leaves_nothing_and_repeats(store: RepositoryStore) -> None:
    writer = store.multipart("big")
    writer.write_part(1, b"data")
    writer.abort()
    writer.abort()
    assert keys(store) == []
    assert store.stale_uploads("") == []
    with pytest.raises(EtcdGuardError):
        writer.complete()
    assert keys(store) == []


def test_an_upload_leaves_the_old_object_until_it_is_complete(store: RepositoryStore) -> None:
    store.put("big", b"old")
    writer = store.multipart("big")
    writer.write_part(1, b"new!")
    assert read(store, "big") == b"old"
    writer.complete()
    assert read(store, "big") == b"new!"


def test_two_uploads_of_one_key_do_not_mix(store: RepositoryStore) -> None:
    one, two = store.multipart("big"), store.multipart("big")
    one.write_part(1, b"one")
    two.write_part(1, b"two")
    one.complete()
    two.abort()
    assert read(store, "big") == b"one"


# the janitor


def test_unfinished_uploads_are_found_and_removed(store: RepositoryStore) -> None:
    for key in ("prod/a", "prod/b", "test/a"):
        store.multipart(key).write_part(1, b"data")
    store.put("prod/c", b"whole")
    found = store.stale_uploads("prod/")
    assert sorted(upload.key for upload in found) == ["prod/a", "prod/b"]
    assert {upload.started_at.utcoffset() for upload in found} == {timedelta(0)}
    for upload in found:
        store.abort_upload(upload)
        store.abort_upload(upload)
    assert store.stale_uploads("prod/") == []
    assert [upload.key for upload in store.stale_uploads("")] == ["test/a"]
    assert keys(store) == ["prod/c"]


# everything at once


def test_threads_share_a_store(store: RepositoryStore) -> None:
    def work(number: int) -> bytes:
        key = f"shared/{number}/object"
        store.put(key, b"%d" % number, create_only=True)
        assert key in keys(store, "shared/")
        data = read(store, key)
        if number % 2:
            store.delete(key)
        return data

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(40)))
    assert results == [b"%d" % number for number in range(40)]
    assert keys(store) == sorted(f"shared/{number}/object" for number in range(0, 40, 2))
