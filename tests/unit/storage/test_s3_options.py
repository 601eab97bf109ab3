from __future__ import annotations

import hashlib
from base64 import b64decode
from dataclasses import replace
from datetime import datetime, timezone

import boto3
import pytest

from etcdguard.errors import RepositoryError
from etcdguard.storage.s3 import ObjectLock, S3Options, S3Store
from etcdguard.storage.s3_bucket import Bucket

NOW = datetime(2026, 11, 21, tzinfo=timezone.utc)
SESSION = boto3.Session("key", "very-secret-key", region_name="eu-north-1")
AWS = S3Options("aws", "bucket", "/some/prefix/")
LOCKED = replace(AWS, object_lock=ObjectLock("COMPLIANCE", days=30))


def bucket(options: S3Options) -> Bucket:
    return Bucket(options, SESSION, lambda: NOW)


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        (AWS, "when_supported"),
        (replace(AWS, endpoint_url="http://127.0.0.1:9000"), "when_required"),
        (replace(AWS, checksum_mode="when_required"), "when_required"),
        (replace(AWS, endpoint_url="http://x:9", checksum_mode="when_supported"), "when_supported"),
    ],
)
def test_checksums_are_sent_where_they_are_understood(options: S3Options, mode: str) -> None:
    config = bucket(options).client.meta.config
    assert config.request_checksum_calculation == mode  # type: ignore[attr-defined]
    assert config.response_checksum_validation == mode  # type: ignore[attr-defined]


def test_boto_itself_does_not_retry() -> None:
    assert bucket(AWS).client.meta.config.retries["total_max_attempts"] == 1  # type: ignore[attr-defined]


def test_every_write_carries_the_configured_settings() -> None:
    options = replace(LOCKED, sse="aws:kms", sse_kms_key_id="alias/etcd", storage_class="STANDARD_IA")
    assert bucket(options).write_settings() == {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/etcd",
        "StorageClass": "STANDARD_IA",
        "ObjectLockMode": "COMPLIANCE",
        "ObjectLockRetainUntilDate": datetime(2026, 12, 21, tzinfo=timezone.utc),
    }
    assert bucket(AWS).write_settings() == {}


@pytest.mark.parametrize("options", [AWS, LOCKED], ids=["plain", "locked"])
def test_what_is_written_always_carries_a_checksum(options: S3Options) -> None:
    sent = bucket(replace(options, checksum_mode="when_required")).integrity(b"data")
    assert b64decode(sent["ContentMD5"]) == hashlib.md5(b"data").digest()
    assert bucket(replace(options, checksum_mode="when_supported")).integrity(b"data") == {}  # boto3 adds one


def test_locks_end_after_days_or_at_a_moment() -> None:
    assert ObjectLock("GOVERNANCE", until=NOW).retain_until(None) == NOW
    with pytest.raises(ValueError, match="either"):
        ObjectLock("GOVERNANCE")
    with pytest.raises(ValueError, match="either"):
        ObjectLock("GOVERNANCE", days=1, until=NOW)
    with pytest.raises(ValueError, match="clock"):
        S3Store(LOCKED, session=SESSION)


@pytest.mark.parametrize(
    ("prefix", "path"), [("", "a/b"), ("/", "a/b"), ("x", "x/a/b"), ("/x/y/", "x/y/a/b")]
)
def test_prefixes_are_folders(prefix: str, path: str) -> None:
    there = bucket(replace(AWS, prefix=prefix))
    assert there.path("a/b") == path
    assert there.key(path) == "a/b"


@pytest.mark.parametrize("endpoint", ["s3.example.com", "http://", "ftp:/x"])
def test_a_malformed_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(RepositoryError) as caught:
        S3Store(replace(AWS, endpoint_url=endpoint), session=SESSION)
    assert "https://" in caught.value.hint


def test_secrets_are_in_no_repr() -> None:
    assert "very-secret" not in repr(AWS) + repr(S3Store(AWS, session=SESSION)) + repr(bucket(AWS))
