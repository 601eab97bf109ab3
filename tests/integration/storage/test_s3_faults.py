"""boto3 to a real server through a proxy that fails: S3Store names the fault, RetryingStore outlasts it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from etcdguard.errors import ObjectExists, RepositoryError, StoreUnavailable
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.retry import RetryingStore, RetryPolicy
from etcdguard.storage.s3 import S3Store
from tests.support.http_faults import FaultProxy, HttpFault, fault_proxy, read_timeout
from tests.support.s3_servers import S3Server, make_bucket

MANY = [f"many/{number:04d}" for number in range(1010)]
PATIENT = RetryPolicy(attempts=4, budget=60.0, first_delay=0.01)


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[FaultProxy]:
    """Faults that no request met fail the test: it did not test what it says."""
    with fault_proxy(s3_server.endpoint_url) as proxy:
        yield proxy
        assert proxy.unmet == 0


@pytest.fixture
def direct(s3_server: S3Server, s3_bucket: str) -> S3Store:
    """The same repository without the proxy."""
    return S3Store(s3_server.options(s3_bucket), session=s3_server.session())


@pytest.fixture
def fault() -> HttpFault | None:
    """What the requests of a test meet, if that is no parameter of it."""
    return None


@pytest.fixture
def bare(s3_server: S3Server, s3_bucket: str, proxy: FaultProxy, fault: HttpFault | None) -> S3Store:
    """Through the proxy, without retries."""
    return through(proxy, s3_server, s3_bucket, fault)


@pytest.fixture
def store(bare: S3Store) -> RetryingStore:
    """Through the proxy, with retries."""
    return patient(bare)


def through(proxy: FaultProxy, server: S3Server, bucket: str, fault: HttpFault | None) -> S3Store:
    timeout = read_timeout(fault)
    options = replace(server.options(bucket), endpoint_url=proxy.endpoint_url, read_timeout=timeout)
    return S3Store(options, session=server.session())


def patient(bare: S3Store) -> RetryingStore:
    return RetryingStore(bare, PATIENT, sleep=lambda _: None, rng=random.Random(1))


def read(store: RepositoryStore, key: str, offset: int = 0) -> bytes:
    return b"".join(store.get(key, offset=offset))


ANY = [
    HttpFault.INTERNAL_ERROR,
    HttpFault.SLOW_DOWN,
    HttpFault.RESET,
    HttpFault.DELAY,
]


@pytest.mark.parametrize("fault", [*ANY, HttpFault.LOST_ACK])
def test_put(
    proxy: FaultProxy, bare: S3Store, store: RetryingStore, direct: S3Store, fault: HttpFault
) -> None:
    proxy.plan(fault, "PUT", "/a", times=2)
    with pytest.raises(StoreUnavailable) as caught:
        bare.put("a", b"data")
    assert caught.value.hint
    store.put("a", b"data")
    assert read(direct, "a") == b"data"


@pytest.mark.parametrize("fault", [*ANY, HttpFault.CUT_BODY])
def test_get(
    proxy: FaultProxy, bare: S3Store, store: RetryingStore, direct: S3Store, fault: HttpFault
) -> None:
    data = random.Random(2).randbytes(3_000_000)
    direct.put("a", data)
    proxy.plan(fault, "GET", "/a")
    with pytest.raises(StoreUnavailable):
        read(bare, "a")
    proxy.plan(fault, "GET", "/a")
    assert read(store, "a", 1000) == data[1000:]


def test_a_cut_body_is_resumed_not_fetched_again(
    proxy: FaultProxy, store: RetryingStore, direct: S3Store
) -> None:
    data = random.Random(3).randbytes(4_000_000)
    direct.put("a", data)
    proxy.plan(HttpFault.CUT_BODY, "GET", "/a", times=2)
    assert read(store, "a") == data
    assert list(dict.fromkeys(proxy.ranges)) == ["", "bytes=2000000-", "bytes=3000000-"]


@pytest.mark.parametrize("fault", [HttpFault.INTERNAL_ERROR, HttpFault.SLOW_DOWN, HttpFault.RESET])
def test_head_never_calls_a_fault_a_missing_object(
    proxy: FaultProxy, bare: S3Store, store: RetryingStore, direct: S3Store, fault: HttpFault
) -> None:
    direct.put("a", b"data")
    proxy.plan(fault, "HEAD", "/a", times=2)
    with pytest.raises(StoreUnavailable):
        bare.head("a")
    assert store.head("a").size == 4


# create-only


def test_a_manifest_whose_answer_was_lost_is_committed_once(
    proxy: FaultProxy, store: RetryingStore, direct: S3Store
) -> None:
    proxy.plan(HttpFault.LOST_ACK, "PUT", "/manifest")
    store.put("manifest", b"mine", create_only=True)
    assert read(direct, "manifest") == b"mine"
    assert [request for request in proxy.requests if request.startswith("PUT")] != []


def test_a_manifest_of_another_writer_is_never_mistaken_for_ours(
    proxy: FaultProxy, store: RetryingStore, direct: S3Store
) -> None:
    direct.put("manifest", b"them")
    proxy.plan(HttpFault.RESET, "PUT", "/manifest")
    with pytest.raises(ObjectExists):
        store.put("manifest", b"mine", create_only=True)
    assert read(direct, "manifest") == b"them"


# multipart


@pytest.mark.parametrize("fault", [HttpFault.SLOW_DOWN, HttpFault.RESET, HttpFault.LOST_ACK])
def test_every_request_of_an_upload_may_fail(
    proxy: FaultProxy, store: RetryingStore, direct: S3Store, fault: HttpFault
) -> None:
    data = random.Random(4).randbytes(5 * 1024 * 1024 + 1000)
    proxy.plan(fault, "POST", "uploads")
    proxy.plan(fault, "PUT", "partNumber=1")
    proxy.plan(fault, "PUT", "partNumber=2")
    proxy.plan(fault, "POST", "uploadId=")
    writer = store.multipart("big")
    writer.write_part(2, data[5 * 1024 * 1024 :])
    writer.write_part(1, data[: 5 * 1024 * 1024])
    assert writer.complete().size == len(data)
    assert read(direct, "big") == data


def test_a_completion_whose_answer_was_lost_counts(proxy: FaultProxy, bare: S3Store, direct: S3Store) -> None:
    writer = bare.multipart("big")
    writer.write_part(1, b"data")
    proxy.plan(HttpFault.LOST_ACK, "POST", "uploadId=")
    with pytest.raises(StoreUnavailable):
        writer.complete()
    assert read(direct, "big") == b"data"
    assert writer.complete().size == 4


def test_an_upload_that_was_aborted_elsewhere_does_not_count_as_complete(
    s3_server: S3Server, bare: S3Store, direct: S3Store
) -> None:
    if s3_server.name == "moto":
        pytest.skip("moto answers 500 instead of NoSuchUpload")
    direct.put("big", b"an older object of another size")
    writer = bare.multipart("big")
    writer.write_part(1, b"data")
    for upload in direct.stale_uploads(""):
        direct.abort_upload(upload)
    with pytest.raises(RepositoryError, match=r"NoSuchUpload|does not hold the parts sent"):
        writer.complete()
    assert read(direct, "big") == b"an older object of another size"


def test_aborting_outlasts_faults_and_leaves_nothing(
    proxy: FaultProxy, store: RetryingStore, direct: S3Store
) -> None:
    writer = store.multipart("big")
    writer.write_part(1, b"data")
    proxy.plan(HttpFault.LOST_ACK, "DELETE", "uploadId=")
    proxy.plan(HttpFault.SLOW_DOWN, "DELETE", "uploadId=")
    writer.abort()
    assert direct.stale_uploads("") == []


# listing and deleting


@pytest.fixture(scope="module")
def crowded(s3_server: S3Server) -> str:
    """A bucket with more keys than a page of a listing holds."""
    bucket = make_bucket(s3_server)
    store = S3Store(s3_server.options(bucket), session=s3_server.session())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: store.put(key, b""), MANY))
    return bucket


@pytest.mark.parametrize("fault", [*ANY, HttpFault.CUT_BODY, HttpFault.GARBAGE])
def test_a_listing_that_fails_on_its_second_page_is_no_listing(
    proxy: FaultProxy, s3_server: S3Server, crowded: str, fault: HttpFault
) -> None:
    bare = through(proxy, s3_server, crowded, fault)
    proxy.plan(fault, "GET", "continuation-token=", times=2)
    with pytest.raises(StoreUnavailable):
        bare.list("many/")
    assert [info.key for info in patient(bare).list("many/")] == MANY


@pytest.mark.parametrize("fault", [HttpFault.CUT_BODY, HttpFault.GARBAGE])
def test_a_broken_first_page_is_not_an_empty_repository(
    proxy: FaultProxy, bare: S3Store, direct: S3Store, fault: HttpFault
) -> None:
    direct.put("a", b"data")
    proxy.plan(fault, "GET", "list-type=2")
    with pytest.raises(StoreUnavailable):
        bare.list("")
    proxy.plan(fault, "GET", "uploads")
    with pytest.raises(StoreUnavailable):
        bare.stale_uploads("")


def test_a_login_page_acknowledges_nothing(proxy: FaultProxy, bare: S3Store, direct: S3Store) -> None:
    proxy.plan(HttpFault.GARBAGE, "PUT", "/a")
    with pytest.raises(StoreUnavailable, match="not that of an S3 store"):
        bare.put("a", b"data")
    proxy.plan(HttpFault.GARBAGE, "POST", "uploads")
    with pytest.raises(StoreUnavailable):
        bare.multipart("big")
    writer = bare.multipart("big")
    proxy.plan(HttpFault.GARBAGE, "PUT", "partNumber=1")
    with pytest.raises(StoreUnavailable):
        writer.write_part(1, b"data")
    writer.write_part(1, b"data")
    proxy.plan(HttpFault.GARBAGE, "POST", "uploadId=")
    with pytest.raises(RepositoryError):
        writer.complete()
    assert list(direct.list("")) == []
    assert writer.complete().size == 4
    assert read(direct, "big") == b"data"


def test_delete_whose_answer_was_lost(proxy: FaultProxy, store: RetryingStore, direct: S3Store) -> None:
    direct.put("a", b"data")
    proxy.plan(HttpFault.LOST_ACK, "DELETE", "/a")
    store.delete("a")
    assert list(direct.list("")) == []


# what is not worth a retry


def test_a_redirect_names_the_region_and_is_not_followed(proxy: FaultProxy, bare: S3Store) -> None:
    proxy.plan(HttpFault.REDIRECT, "GET", "list-type=2")
    with pytest.raises(RepositoryError, match="another region") as caught:
        bare.list("")
    assert "eu-north-1" in caught.value.hint
    assert len(proxy.requests) == 1


def test_a_store_that_stays_down_is_given_up_with_the_count(proxy: FaultProxy, store: RetryingStore) -> None:
    proxy.plan(HttpFault.SLOW_DOWN, "PUT", "/a", times=PATIENT.attempts)
    with pytest.raises(StoreUnavailable, match=r"SlowDown \(503\).*gave up after 4 attempts"):
        store.put("a", b"data")
