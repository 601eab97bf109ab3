"""Every guard of a defragmentation, tripped on real clusters: before the run, and while it goes on."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, Locked, Refused
from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.lock import LeaseLock, lock_key
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.survey import Observation
from tests.support.defrags import EAGER, STEADY, Site, fragment, held_snapshot
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.waiting import eventually

IMPATIENT = replace(EAGER, patience=15.0)


@pytest.fixture
def site(cluster_factory: ClusterFactory) -> Iterator[Site]:
    """Three members whose databases are worth it."""
    cluster = cluster_factory(extra_args=STEADY)
    with Site.on(cluster) as made:
        fragment(cluster, made.client)
        yield made


def refused(site: Site, kind: type[EtcdGuardError], why: str, **changes: object) -> None:
    """The plan says so, the run raises it, and no member was touched."""
    job = site.job(**changes)  # type: ignore[arg-type]
    report = job.plan()
    assert any(why in one.text for one in report.plan.problems), report.plan.problems
    with pytest.raises(kind, match=why):
        job.run()
    assert site.client.calls == []
    assert site.backups == 0
    assert site.events == []
    assert not site.lock.held()


def problems_of(site: Site) -> list[str]:
    """What stands in the way of a run, be it that nobody can tell."""
    try:
        return [one.text for one in site.job().plan().plan.problems]
    except EtcdGuardError as error:
        return [error.message]


def a_follower(site: Site) -> str:
    """Whose end is no reason for an election."""
    leader = site.leader()
    return next(name for name in site.cluster.names if site.cluster.client_url(name) != leader)


@contextmanager
def learner(site: Site) -> Iterator[None]:
    url = site.cluster.client_urls[0]
    member_id = ""

    def announced() -> bool:
        nonlocal member_id
        try:  # etcd wants every member connected for 5 s first
            member_id = site.client.add_learner(url, ["http://127.0.0.1:1"])
        except ClusterUnhealthy:
            return False
        return True

    eventually(announced, "the learner is announced")
    yield
    site.client.remove_member(url, member_id)


def test_what_is_refused_before_any_member_is_touched(site: Site) -> None:
    cluster, url = site.cluster, site.cluster.client_urls[0]

    refused(site, ClusterUnhealthy, "entries to apply", policy=replace(EAGER, max_unapplied=-1))
    refused(site, ClusterUnhealthy, "entries behind", policy=replace(EAGER, max_spread=-1))
    refused(site, Refused, "would be blocked for about", policy=replace(EAGER, max_duration=1e-9))
    refused(
        site, Refused, "of disk left and needs", policy=replace(EAGER, disk_reserve=10**15), disk_free=10**14
    )

    other = LeaseLock.on(
        ConnectionOptions(cluster.client_urls),
        lock_key("prod", "maintenance"),
        "a backup elsewhere",
        lambda: datetime.now(timezone.utc),
    )
    with other:
        other.acquire()
        with pytest.raises(Locked, match="a backup elsewhere"):
            site.job().run()
    assert site.client.calls == []

    with learner(site):
        refused(site, Refused, "is a learner")

    member_id = site.client.status(url).member_id
    site.client.raise_alarm(url, member_id, "CORRUPT")
    refused(site, ClusterUnhealthy, "CORRUPT is raised for etcd-1")
    site.client.disarm(url, Alarm(member_id, "CORRUPT"))

    name = a_follower(site)
    cluster.kill(name)
    refused(site, ClusterUnhealthy, f"{name} does not serve")
    cluster.start_member(name)
    cluster.wait_healthy()

    # Each of them stood in the way of this.
    eventually(lambda: problems_of(site) == [], "the cluster is sound again")
    assert site.job().run().outcome == "done"


def test_a_member_that_stands_still(site: Site) -> None:
    pid = site.cluster.pid(a_follower(site))
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        refused(site, ClusterUnhealthy, "does not serve")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_member_that_lags_behind_for_real(site: Site) -> None:
    """By the guard's own thresholds: it was stopped while the others took writes, and hardly runs now."""
    assert (EAGER.max_unapplied, EAGER.max_spread) == (100, 1000)
    name = a_follower(site)
    pid = site.cluster.pid(name)
    assert pid is not None
    turns = itertools.cycle((0.002, 0.005, 0.01, 0.02))  # how much is little depends on the machine

    def is_told() -> bool:
        with lagging(site, pid, turn=next(turns)):
            problems = problems_of(site)
        return any(one.startswith(f"{name} is ") and one.endswith("more than 1000") for one in problems)

    eventually(is_told, "it is told how far it lags")
    assert site.client.calls == []
    eventually(lambda: problems_of(site) == [], "it has caught up")


@contextmanager
def lagging(site: Site, pid: int, *, turn: float) -> Iterator[None]:
    """Behind by some thousand writes, and with ``turn`` of every 0.1 s to catch up while the block runs."""
    leader = site.leader()
    over = threading.Event()

    def crawl() -> None:
        while not over.wait(0.1):
            os.kill(pid, signal.SIGCONT)
            over.wait(turn)
            os.kill(pid, signal.SIGSTOP)

    os.kill(pid, signal.SIGSTOP)
    crawler = threading.Thread(target=crawl)
    try:
        options = ConnectionOptions(site.cluster.client_urls, command_timeout=60)
        with AdminClient(options) as writer, ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda number: writer.put(leader, b"/late/%d" % number, b"x" * 8192), range(2000)))
        crawler.start()
        yield
    finally:
        over.set()
        if crawler.ident is not None:
            crawler.join()
        os.kill(pid, signal.SIGCONT)


def test_a_snapshot_that_is_being_read_by_anybody(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(extra_args=STEADY)
    with Site.on(cluster) as site:
        fragment(cluster, site.client)
        with held_snapshot(cluster.client_urls[1]):
            refused(site, Refused, "is sending a snapshot")
        eventually(lambda: problems_of(site) == [], "the snapshot has ended")


def test_a_client_timeout_never_leads_to_a_second_member(cluster_factory: ClusterFactory) -> None:
    """With metrics that cannot be read, so that only what the member does tells."""
    cluster = cluster_factory(extra_args=STEADY)
    with Site.on(cluster, command_timeout=10.0) as site:
        fragment(cluster, site.client)
        policy = replace(EAGER, min_timeout=1.0, max_timeout=1.0, patience=2.0)

        def blind(*_: object) -> Observation:
            return Observation()

        followers = [url for url in cluster.client_urls if url != site.leader()]
        with held_snapshot(followers[0]), held_snapshot(followers[1]):
            report = site.job(policy, observe=blind).run()
            assert report.outcome == "failed"
            assert "gave no answer within 1 s, and does not serve" in (report.reason or "")
            (blocked,) = site.client.endpoints_of("defragment")
            first = report.plan.chosen[0].member
            assert first.status is not None
            assert first.status.endpoint == blocked
            others = [url for url in cluster.client_urls if url != blocked]
            for url in others:  # they serve, reads and writes
                site.client.put(url, b"/meanwhile", b"")
                site.client.linearizable_read(url)
            with pytest.raises(ClusterUnhealthy, match=f"{first.name} does not serve"):
                site.job(policy, observe=blind).run()
            assert site.client.endpoints_of("defragment") == [blocked]

        # etcd has gone on with it all the while.
        def is_done() -> bool:
            try:
                return site.client.status(blocked).db_size < 2_000_000
            except EtcdGuardError:
                return False  # not yet

        eventually(is_done, "the member is defragmented")
        eventually(lambda: problems_of(site) == [], "the cluster is sound again")

        # Once more with another member, which is let go while it is waited for: that is not believed either.
        second = site.job(policy, observe=blind).plan().plan.chosen[0].member
        assert second.status is not None
        assert second.id != first.id
        site.client.calls.clear()
        patient = replace(policy, patience=120.0)
        with held_snapshot(second.status.endpoint) as snapshot:

            def let_go(seconds: float) -> None:
                if site.client.calls:  # it was asked, gave no answer, and did not serve a read either
                    snapshot.cancel()
                time.sleep(seconds)

            report = site.job(patient, observe=blind, sleep=let_go).run()
        assert report.outcome == "failed"
        assert "though it serves again" in (report.reason or "")
        assert site.client.endpoints_of("defragment") == [second.status.endpoint]
        assert [event["outcome"] for event in site.events] == ["failed", "failed"]


def moved_by_somebody(site: Site) -> None:
    leader = site.leader()
    target = next(url for url in site.cluster.client_urls if url != leader)
    super(type(site.client), site.client).move_leader(leader, site.client.status(target).member_id)


def corrupted(site: Site) -> None:
    url = site.cluster.client_urls[0]
    site.client.raise_alarm(url, site.client.status(url).member_id, "CORRUPT")


def one_is_gone(site: Site) -> None:
    done = site.client.calls[0].endpoint
    leader = site.leader()
    gone = next(name for name in site.cluster.names if site.cluster.client_url(name) not in (done, leader))
    site.cluster.kill(gone)


def lock_lost(site: Site) -> None:
    site.lock.release()


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (moved_by_somebody, "the leader changed, and not by us"),
        (corrupted, "the alarm CORRUPT was raised"),
        (one_is_gone, "does not serve"),
        (lock_lost, "was lost"),
    ],
)
def test_what_ends_a_run_after_the_first_member(
    site: Site, happens: Callable[[Site], None], why: str
) -> None:
    site.client.after = lambda: happens(site)
    report = site.job(IMPATIENT).run()
    assert report.outcome == "partial"
    assert why in (report.reason or "")
    assert [one.outcome for one in report.results] == ["done"]
    assert [one.name for one in site.client.calls] == ["defragment"]
    (event,) = site.events
    assert (event["outcome"], event["reason"]) == ("partial", report.reason)


def test_an_interrupt_waits_for_the_member_and_no_other_is_begun(site: Site) -> None:
    ended: list[str] = []

    @contextmanager
    def shield(name: str, _timeout: float) -> Iterator[None]:
        yield
        ended.append(name)
        raise KeyboardInterrupt

    report = site.job(shield=shield).run()
    assert report.outcome == "interrupted"
    assert [one.member.name for one in report.results] == ended
    assert len(site.client.calls) == 1
    assert site.events[0]["members"][0]["outcome"] == "done"
    assert site.history(site.events[0]["cluster_id"]).failures == 0

    # What was done is remembered: a day has not passed.
    again = site.job().run()
    assert again.outcome == "done"
    assert ended[0] not in [one.member.name for one in again.results]


@pytest.mark.parametrize("voters", [1, 2])
def test_small_clusters_only_when_that_is_said(cluster_factory: ClusterFactory, voters: int) -> None:
    names = ("etcd-1", "etcd-2")[:voters]
    cluster = cluster_factory(names=names, extra_args=STEADY)
    with Site.on(cluster) as site:
        fragment(cluster, site.client)
        refused(site, Refused, "everything stops")
        report = site.job(replace(EAGER, small_clusters=True)).run()
        assert report.outcome == "done"
        assert len(site.client.endpoints_of("defragment")) == voters
        assert len(site.client.endpoints_of("move_leader")) == voters - 1
