"""Small objects read past boto3, from real servers: nothing else would notice if that always fell back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from etcdguard.storage.s3_quick import QuickReader
from tests.support.s3_servers import S3Server, make_bucket

KEYS = ("prod/backups/a-1/manifest.json", "a b/+c~d_e=(1).json", "ä/€.json")


def _reader(server: S3Server, bucket: str) -> QuickReader:
    return QuickReader(server.client(), server.session(), server.options(bucket))


@pytest.mark.parametrize("key", KEYS, ids=["plain", "punctuation", "foreign"])
def test_an_object_is_read_with_a_signature_of_its_own(s3_server: S3Server, s3_bucket: str, key: str) -> None:
    s3_server.client().put_object(Bucket=s3_bucket, Key=key, Body=b"0123456789")
    reader = _reader(s3_server, s3_bucket)
    assert reader.read(key, 100) == b"0123456789"
    assert reader.read(key, 4) == b"0123"


def test_what_is_not_there_is_no_answer_and_costs_nothing(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.client().put_object(Bucket=s3_bucket, Key=KEYS[0], Body=b"x")
    reader = _reader(s3_server, s3_bucket)
    assert reader.read("absent", 100) is None
    assert reader.read(KEYS[0], 100) == b"x"


def test_a_refusal_is_no_answer(seaweedfs_server: S3Server) -> None:
    bucket = make_bucket(seaweedfs_server)
    seaweedfs_server.client().put_object(Bucket=bucket, Key=KEYS[0], Body=b"x")
    stranger = replace(seaweedfs_server, secret_key="0" * 40)
    reader = QuickReader(seaweedfs_server.client(), stranger.session(), seaweedfs_server.options(bucket))
    assert reader.read(KEYS[0], 100) is None
    assert _reader(seaweedfs_server, bucket).read(KEYS[0], 100) == b"x"
