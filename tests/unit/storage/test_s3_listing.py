"""Answers no test server gives: a listing is complete or it is an error."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from io import BytesIO
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from etcdguard.errors import AccessDenied, RepositoryError, StoreUnavailable
from etcdguard.storage.base import Lock
from etcdguard.storage.s3 import S3Options, S3Store


@pytest.fixture
def store() -> S3Store:
    session = boto3.Session("key", "secret", region_name="eu-north-1")
    return S3Store(S3Options("aws", "bucket", "etcd"), session=session)


@pytest.fixture
def answers(store: S3Store) -> Iterator[Stubber]:
    with Stubber(store._bucket.client) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def page(*keys: str, **more: Any) -> dict[str, Any]:
    return {"Contents": [{"Key": key, "Size": 1} for key in keys], "IsTruncated": False, **more}


def test_pages_are_joined_sorted_and_cleared_of_folder_markers(store: S3Store, answers: Stubber) -> None:
    answers.add_response(
        "list_objects_v2", page("etcd/b/", "etcd/b/1", IsTruncated=True, NextContinuationToken="t")
    )
    answers.add_response("list_objects_v2", page("etcd/a", "etcd/"))
    assert [info.key for info in store.list("")] == ["a", "b/1"]


@pytest.mark.parametrize("bad", [page("etcd/a", IsTruncated=True), {"Contents": []}, {}])
def test_an_incomplete_listing_is_an_error(store: S3Store, answers: Stubber, bad: dict[str, Any]) -> None:
    answers.add_response("list_objects_v2", bad)
    with pytest.raises(StoreUnavailable, match="not that of an S3 store"):
        store.list("")


def test_a_store_that_repeats_a_page_for_ever_is_an_error(store: S3Store, answers: Stubber) -> None:
    for _ in range(2):
        answers.add_response(
            "list_objects_v2", page("etcd/a", IsTruncated=True, NextContinuationToken="the same")
        )
    with pytest.raises(RepositoryError):
        store.list("")


@pytest.mark.parametrize("bad", [{"IsTruncated": True}, {}])
def test_an_incomplete_listing_of_uploads_is_an_error(
    store: S3Store, answers: Stubber, bad: dict[str, Any]
) -> None:
    answers.add_response("list_multipart_uploads", bad)
    with pytest.raises(StoreUnavailable):
        store.stale_uploads("")


def test_a_store_that_ignores_ranges_is_an_error(store: S3Store, answers: Stubber) -> None:
    answers.add_response("get_object", {"Body": BytesIO(b"everything"), "ContentLength": 10})
    with pytest.raises(RepositoryError, match="range"):
        list(store.get("a", offset=3, length=2))


def test_an_absent_object_is_not_reported_while_the_bucket_is(store: S3Store, answers: Stubber) -> None:
    answers.add_client_error("head_object", "404", "Not Found", 404)
    answers.add_client_error("list_objects_v2", "SlowDown", "later", 503)
    with pytest.raises(StoreUnavailable):
        store.head("a")


@pytest.mark.parametrize("last", [{"IsTruncated": True}, {}])
def test_an_incomplete_listing_of_folders_is_an_error(
    store: S3Store, answers: Stubber, last: dict[str, Any]
) -> None:
    first = {"IsTruncated": True, "NextContinuationToken": "t", "CommonPrefixes": [{"Prefix": "etcd/b/"}]}
    answers.add_response("list_objects_v2", first)
    answers.add_response("list_objects_v2", last)
    with pytest.raises(StoreUnavailable):
        store.folders("")


def test_folders_of_all_pages_are_sorted(store: S3Store, answers: Stubber) -> None:
    first = {"IsTruncated": True, "NextContinuationToken": "t", "CommonPrefixes": [{"Prefix": "etcd/b/"}]}
    answers.add_response("list_objects_v2", first)
    answers.add_response("list_objects_v2", {"IsTruncated": False, "CommonPrefixes": [{"Prefix": "etcd/a/"}]})
    assert store.folders("") == ["a", "b"]


def test_a_store_that_says_404_to_a_delete_has_deleted_it(store: S3Store, answers: Stubber) -> None:
    answers.add_client_error("delete_object", "NoSuchKey", "Not Found", 404)
    answers.add_response("list_objects_v2", page())  # the bucket is there
    store.delete("a")
    answers.add_client_error("delete_object", "AccessDenied", "no", 403)
    with pytest.raises(AccessDenied):
        store.delete("a")


def test_a_legal_hold_is_a_lock_without_end(store: S3Store, answers: Stubber) -> None:
    until = datetime(2026, 12, 1, tzinfo=timezone.utc)
    for hold, expected in (("OFF", until), ("ON", datetime.max.replace(tzinfo=timezone.utc))):
        answers.add_response(
            "head_object",
            {
                "ObjectLockMode": "GOVERNANCE",
                "ObjectLockRetainUntilDate": until,
                "ObjectLockLegalHoldStatus": hold,
            },
        )
        assert store.lock("a") == Lock(expected, "GOVERNANCE")
    answers.add_response("head_object", {})
    assert store.lock("a") is None
