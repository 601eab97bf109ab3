"""Faults on the wire between a backup and a real S3 server: nothing is lost and nothing wrong is listed."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from etcdguard.backup.spool import Spool
from etcdguard.errors import RepositoryError, StoreUnavailable
from etcdguard.storage.retry import RetryingStore, RetryPolicy
from etcdguard.storage.s3 import S3Store
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.backups import Node, catalog_of, chain_problems, database, plaintext
from tests.support.bolt_writer import with_trailer
from tests.support.fake_source import FakeSource
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.http_faults import FaultProxy, HttpFault, fault_proxy, read_timeout
from tests.support.load import fill
from tests.support.s3_servers import S3Server, make_bucket

ALWAYS = 10**6
QUICK = RetryPolicy(attempts=3, first_delay=0.01)


@dataclass(frozen=True)
class Request:
    """One kind of request that a backup makes."""

    method: str
    path: str
    skip: int = 0


REQUESTS = {
    "list uploads": Request("GET", "uploads"),
    "begin upload": Request("POST", "?uploads"),
    "write part": Request("PUT", "partNumber=2"),
    "complete": Request("POST", "uploadId="),
    "head": Request("HEAD", "snapshot.db"),
    "list manifests": Request("GET", "list-type=2"),
    "read manifest": Request("GET", "manifest.json"),
    "write signature": Request("PUT", "manifest.json.sig"),
    "write manifest": Request("PUT", "manifest.json", skip=1),
}
READS = ("list uploads", "list manifests", "read manifest")
FAULTS = (HttpFault.INTERNAL_ERROR, HttpFault.SLOW_DOWN, HttpFault.RESET, HttpFault.LOST_ACK, HttpFault.DELAY)

PASSING = [
    *((name, fault) for name in REQUESTS for fault in FAULTS),
    *((name, HttpFault.CUT_BODY) for name in READS),
]
STAYING = [
    *((name, HttpFault.INTERNAL_ERROR) for name in REQUESTS),
    # Not "complete": its second attempt learns from the object itself that the first one succeeded.
    *((name, HttpFault.LOST_ACK) for name in REQUESTS if name != "complete"),
    *((name, HttpFault.CUT_BODY) for name in READS),
    ("write part", HttpFault.DELAY),
    ("write manifest", HttpFault.DELAY),
]


def _named(cases: list[tuple[str, HttpFault]]) -> pytest.MarkDecorator:
    ids = [f"{name}-{fault.name}" for name, fault in cases]
    return pytest.mark.parametrize(("name", "fault"), cases, ids=ids)


@functools.cache
def large(revision: int) -> bytes:
    """More than one part of an upload."""
    return database(revision, value_bytes=800_000)


class Scene:
    """A node with one backup in a bucket; ``near`` goes to the server, ``far`` through the proxy."""

    def __init__(self, folder: Path, server: S3Server, proxy: FaultProxy, fault: HttpFault | None) -> None:
        self.node = Node(folder / "spool")
        self.proxy = proxy
        options = server.options(make_bucket(server), "etcd")
        self.near = S3Store(options, session=server.session())
        through = replace(options, endpoint_url=proxy.endpoint_url, read_timeout=read_timeout(fault))
        self._once = S3Store(through, session=server.session())
        self.far = self.insisting(QUICK)
        self.backup(9)

    def insisting(self, policy: RetryPolicy) -> RetryingStore:
        """``far`` with another patience."""
        return RetryingStore(self._once, policy, rng=random.Random(1))

    def backup(self, revision: int) -> None:
        self.node.run(FakeSource(large(revision)), self.near)

    def faulty_backup(self, revision: int) -> None:
        report = self.node.run(FakeSource(large(revision)), self.far)
        assert report.failed == {}

    def plan(self, name: str, fault: HttpFault, *, times: int = 1) -> None:
        request = REQUESTS[name]
        self.proxy.plan(fault, request.method, request.path, skip=request.skip, times=times)

    def revisions(self) -> list[int]:
        """Of everything listed, each proven to be the snapshot that was taken."""
        listing = catalog_of(self.near).list()
        assert listing.problems == ()
        assert chain_problems(listing) == []
        for backup in listing.backups:
            assert backup.signature == "valid"
            expected = with_trailer(large(backup.manifest.snapshot.revision))
            assert plaintext(self.near, backup.manifest) == expected
        return [backup.manifest.snapshot.revision for backup in listing.backups]

    def spooled(self) -> int:
        return len(Spool(self.node.spool_path).entries())


@pytest.fixture
def fault() -> HttpFault | None:
    """What the requests of a test meet, if that is no parameter of it."""
    return None


@pytest.fixture
def scene(tmp_path: Path, seaweedfs_server: S3Server, fault: HttpFault | None) -> Iterator[Scene]:
    with fault_proxy(seaweedfs_server.endpoint_url) as proxy:
        yield Scene(tmp_path, seaweedfs_server, proxy, fault)


@_named(PASSING)
def test_a_fault_that_passes_costs_nothing(scene: Scene, name: str, fault: HttpFault) -> None:
    scene.plan(name, fault)
    scene.faulty_backup(10)
    assert scene.proxy.unmet == 0
    assert scene.revisions() == [9, 10]
    assert scene.spooled() == 0
    unknown_upload = (name, fault) == ("begin upload", HttpFault.LOST_ACK)
    assert len(scene.near.stale_uploads("")) == int(unknown_upload)


@_named(STAYING)
def test_a_fault_that_stays_is_an_error_and_the_next_run_makes_up_for_it(
    scene: Scene, name: str, fault: HttpFault
) -> None:
    scene.plan(name, fault, times=ALWAYS)
    with pytest.raises(RepositoryError, match="no repository took the backup") as failure:
        scene.faulty_backup(10)
    assert failure.value.exit_code == 10
    assert "gave up after 3 attempts" in failure.value.message
    assert "spool" in failure.value.hint
    assert scene.spooled() == 1
    committed = (name, fault) == ("write manifest", HttpFault.LOST_ACK)
    assert scene.revisions() == ([9, 10] if committed else [9])

    scene.backup(11)
    assert scene.revisions() == [9, 10, 11]
    assert scene.spooled() == 0
    assert scene.near.stale_uploads("") == []


def test_a_listing_that_fails_on_its_second_page_is_not_a_short_one(
    scene: Scene, seaweedfs_server: S3Server
) -> None:
    """Else the chain would begin anew, and ``list`` would show a part."""
    crowd = "prod/backups/20200101T000000Z-r00000000000000000001-00000000/stray-"
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: scene.near.put(f"{crowd}{number:04d}", b""), range(1001)))
    assert scene.revisions() == [9]
    scene.proxy.plan(HttpFault.INTERNAL_ERROR, "GET", "continuation-token", times=ALWAYS)

    with pytest.raises(StoreUnavailable):
        catalog_of(scene.far).list()
    with pytest.raises(RepositoryError, match="cannot list") as failure:
        scene.faulty_backup(10)
    assert failure.value.exit_code == 10
    assert scene.revisions() == [9]
    assert scene.spooled() == 1

    scene.backup(11)
    assert scene.revisions() == [9, 10, 11]


@pytest.mark.parametrize("fault", [HttpFault.CUT_BODY, HttpFault.RESET, HttpFault.SLOW_DOWN, HttpFault.DELAY])
def test_reading_a_backup_through_faults(scene: Scene, fault: HttpFault) -> None:
    (backup,) = catalog_of(scene.near).list().backups
    scene.proxy.plan(fault, "GET", "snapshot.db", times=2)
    far = scene.insisting(replace(QUICK, attempts=4))  # one of them for the machine's own delays
    assert plaintext(far, backup.manifest) == with_trailer(large(9))
    assert scene.proxy.unmet == 0
    scene.proxy.plan(fault, "GET", "snapshot.db", times=ALWAYS)
    if fault is HttpFault.CUT_BODY:
        return  # every attempt gets half of what is left, and so does the last
    with pytest.raises(StoreUnavailable, match="gave up"):
        plaintext(scene.far, backup.manifest)


# -- as people run it --------------------------------------------------------------------------------------


@pytest.fixture
def here(
    tmp_path: Path, cluster_factory: ClusterFactory, seaweedfs_server: S3Server
) -> Iterator[tuple[Installation, FaultProxy]]:
    """An installation whose only repository is behind the proxy."""
    cluster = cluster_factory(names=("etcd-1",))
    fill(cluster, 45_000_000)
    bucket = make_bucket(seaweedfs_server)
    with fault_proxy(seaweedfs_server.endpoint_url) as proxy:
        installation = Installation.of(tmp_path / "here", cluster, variables=credentials(seaweedfs_server))
        place = s3_repository(seaweedfs_server, bucket, name="far", endpoint_url=proxy.endpoint_url)
        installation.settings["repositories"] = [place]
        installation.save()
        yield installation, proxy


def test_the_answers_of_a_whole_backup_get_lost(here: tuple[Installation, FaultProxy]) -> None:
    installation, proxy = here
    for request in REQUESTS.values():
        if request.method in ("PUT", "POST"):
            proxy.plan(HttpFault.LOST_ACK, request.method, request.path, skip=request.skip)
    backup_id = installation.backup()
    assert proxy.unmet == 0
    assert installation.ids() == [backup_id]
    proxy.plan(HttpFault.CUT_BODY, "GET", "snapshot.db")
    proxy.plan(HttpFault.CUT_BODY, "GET", "list-type=2")
    (result,) = installation.json("verify", "latest", "--level", "data")["results"]
    assert (result["id"], result["outcome"]) == (backup_id, "ok")
    assert proxy.unmet == 0
    assert [path for path in installation.spool.iterdir() if path.is_dir()] == []


@pytest.mark.slow
def test_s3_is_down_for_the_whole_backup(here: tuple[Installation, FaultProxy]) -> None:
    installation, proxy = here
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        proxy.plan(HttpFault.RESET, method, times=ALWAYS)
    done = installation.run("backup", code=10)
    error, hint = done.problem
    assert "no repository took the backup (far: " in error
    assert "gave up after 10 attempts" in error
    assert hint.endswith("the backup is whole in the spool and the next run ships it")
    (entry,) = Spool(installation.spool).entries()
    waiting = entry.backup()
    assert waiting is not None
    error, _ = installation.run("list", code=10).problem
    assert "gave up after 10 attempts" in error

    proxy.recover()
    newer = installation.backup()
    assert installation.ids() == [waiting.id, newer]
    results = installation.json("verify", "--all", "--level", "data")["results"]
    assert [result["outcome"] for result in results] == ["ok", "ok"]
    assert [path for path in installation.spool.iterdir() if path.is_dir()] == []
