"""Everything a user can set wrong, against real servers: one line, one hint, the right class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import boto3
import pytest

from etcdguard.errors import AccessDenied, ObjectExists, ObjectNotFound, RepositoryError, StoreUnavailable
from etcdguard.maintenance.repository_check import check_repository
from etcdguard.maintenance.results import Outcome
from etcdguard.storage.retry import RetryingStore
from etcdguard.storage.s3 import ObjectLock, S3Options, S3Store
from tests.support.certs import Pki, make_pki
from tests.support.s3_servers import S3Server, make_bucket, second_s3


def every_call(store: S3Store) -> list[Callable[[], object]]:
    return [
        lambda: store.head("a"),
        lambda: list(store.get("a")),
        lambda: list(store.get("a", length=0)),
        lambda: store.list(""),
        lambda: store.put("a", b"1"),
        lambda: store.put("a", b"1", create_only=True),
        lambda: store.delete("a"),
        lambda: store.multipart("a"),
        lambda: store.stale_uploads(""),
    ]


def failures(store: S3Store) -> list[RepositoryError]:
    """What each call raises; all of them must."""
    errors = []
    for call in every_call(store):
        with pytest.raises(RepositoryError) as caught:
            call()
        errors.append(caught.value)
        assert "\n" not in caught.value.message + caught.value.hint
        assert not isinstance(caught.value, ObjectNotFound)
    return errors


@pytest.fixture
def options(s3_server: S3Server, s3_bucket: str) -> S3Options:
    return s3_server.options(s3_bucket)


def test_the_check_passes_on_a_sound_repository(s3_server: S3Server, options: S3Options) -> None:
    store = S3Store(options, session=s3_server.session())
    results = check_repository(RetryingStore(store), "prod", now=datetime(2026, 11, 21, tzinfo=timezone.utc))
    assert [result for result in results if result.outcome is not Outcome.OK] == []
    assert len(results) == 8
    assert list(store.list("")) == []


def test_a_missing_bucket_is_said_by_every_call(s3_server: S3Server, options: S3Options) -> None:
    store = S3Store(replace(options, bucket="no-such-bucket"), session=s3_server.session())
    for error in failures(store):
        assert "no-such-bucket" in error.message
        assert "the bucket does not exist" in error.message


def test_a_wrong_secret_is_said_by_every_call(s3_server: S3Server, options: S3Options) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto does not check signatures")
    store = S3Store(
        options, session=boto3.Session(s3_server.access_key, "wrong-secret", region_name="us-east-1")
    )
    for error in failures(store):
        assert isinstance(error, AccessDenied)
        assert "AWS_SECRET_ACCESS_KEY" in error.hint
        assert "wrong-secret" not in error.message


def test_an_unknown_key_is_denied(s3_server: S3Server, options: S3Options) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto does not check credentials")
    store = S3Store(options, session=boto3.Session("nobody", "wrong-secret", region_name="us-east-1"))
    for error in failures(store):
        assert isinstance(error, AccessDenied)
        assert "AWS_ACCESS_KEY_ID" in error.hint


def test_a_wrong_region_is_said_by_every_call_with_the_right_one(
    second_s3_server: S3Server,
) -> None:
    if second_s3_server.name != "versitygw":
        pytest.skip(f"{second_s3_server.name} accepts any region")
    options = replace(second_s3_server.options(make_bucket(second_s3_server)), region="eu-north-1")
    for error in failures(S3Store(options, session=second_s3_server.session())):
        assert "another region" in error.message
        assert "us-east-1" in error.hint


def test_missing_credentials(options: S3Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "missing"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for error in failures(S3Store(options)):
        assert isinstance(error, AccessDenied)
        assert "credentials" in error.hint


def test_credentials_come_from_boto3s_own_chain(
    s3_server: S3Server, options: S3Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    store = S3Store(options)
    store.put("a", b"1")
    assert store.head("a").size == 1


def test_a_profile_that_does_not_exist(options: S3Options, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(AccessDenied, match="no-such-profile"):
        S3Store(options)


def test_a_store_that_is_not_there_is_worth_a_retry(s3_server: S3Server, options: S3Options) -> None:
    store = S3Store(replace(options, endpoint_url="http://127.0.0.1:1"), session=s3_server.session())
    for error in failures(store):
        assert isinstance(error, StoreUnavailable)
        assert "endpoint_url" in error.hint


@pytest.mark.parametrize("mode", ["when_required", "when_supported"])
def test_both_checksum_modes(s3_server: S3Server, options: S3Options, mode: str) -> None:
    store = S3Store(replace(options, checksum_mode=mode), session=s3_server.session())  # type: ignore[arg-type]
    store.put("a", b"data", create_only=True)
    writer = store.multipart("b")
    writer.write_part(1, b"1" * writer.min_part_size)
    writer.write_part(2, b"tail")
    size = writer.complete().size
    assert b"".join(store.get("a", offset=1)) == b"ata"
    assert len(b"".join(store.get("b"))) == size


def test_emulated_conditional_writes_look_first(s3_server: S3Server, options: S3Options) -> None:
    store = S3Store(replace(options, conditional_writes="emulated"), session=s3_server.session())
    store.put("a", b"first", create_only=True)
    with pytest.raises(ObjectExists):
        store.put("a", b"other", create_only=True)
    assert b"".join(store.get("a")) == b"first"


@pytest.mark.parametrize("checksum_mode", ["when_required", "when_supported"])
def test_locked_objects_cannot_be_removed_before_their_time(s3_server: S3Server, checksum_mode: str) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto does not lock objects made by multipart uploads")
    bucket = make_bucket(s3_server, object_lock=True)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    options = replace(
        s3_server.options(bucket),
        object_lock=ObjectLock("COMPLIANCE", days=1),
        checksum_mode=checksum_mode,  # type: ignore[arg-type]
    )
    store = S3Store(options, session=s3_server.session(), now=lambda: now)
    store.put("small", b"data", create_only=True)
    writer = store.multipart("large")
    writer.write_part(1, b"data")
    writer.complete()
    client = s3_server.client()
    for key in ("small", "large"):
        head = client.head_object(Bucket=bucket, Key=key)
        assert head["ObjectLockMode"] == "COMPLIANCE"
        assert head["ObjectLockRetainUntilDate"] == now + timedelta(days=1)
        with pytest.raises(client.exceptions.ClientError, match=r"AccessDenied|ObjectLocked|WORM"):
            client.delete_object(Bucket=bucket, Key=key, VersionId=head["VersionId"])


# TLS


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory, pki: Pki) -> Iterator[S3Server]:
    with second_s3(tmp_path_factory.mktemp("tls-s3"), pki=pki) as server:
        yield server


def test_a_private_ca_is_trusted_when_named(tls_server: S3Server) -> None:
    store = S3Store(tls_server.options(make_bucket(tls_server)), session=tls_server.session())
    store.put("a", b"1", create_only=True)
    assert [info.key for info in store.list("")] == ["a"]


@pytest.mark.parametrize("bundle", ["none", "other", "missing"])
def test_a_certificate_nobody_vouches_for_is_refused_at_once(
    tls_server: S3Server, pki: Pki, tmp_path: Path, bundle: str
) -> None:
    ca = {"none": None, "other": pki.other_ca, "missing": tmp_path / "missing.pem"}[bundle]
    options = replace(tls_server.options("bucket"), ca_bundle=ca)
    for error in failures(S3Store(options, session=tls_server.session())):
        assert not isinstance(error, StoreUnavailable)
        assert "ca_bundle" in error.hint


def test_https_to_a_store_that_speaks_http(second_s3_server: S3Server) -> None:
    options = second_s3_server.options("bucket")
    assert options.endpoint_url is not None
    options = replace(options, endpoint_url=options.endpoint_url.replace("http:", "https:"))
    for error in failures(S3Store(options, session=second_s3_server.session())):
        assert not isinstance(error, StoreUnavailable)
        assert "endpoint_url" in error.hint
