"""Defragmentation of real clusters: the order, under load.

No request fails but on the member that is being defragmented. The hand-over is an election, though a short
one: etcd drops what is proposed, and fails what is read, at that very moment, on whichever member.
"""

from __future__ import annotations

import time
from dataclasses import replace

from tests.support.defrags import EAGER, STEADY, Load, Site, fragment, load
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.waiting import eventually

POLICY = replace(EAGER, leader_settle=0.25)
"""Told from every other wait: it begins when all members name the new leader."""


def await_more(loads: list[Load]) -> None:
    """Until every member has answered ten times from now."""
    before = [one.answered for one in loads]
    eventually(
        lambda: all(one.answered > known + 10 for one, known in zip(loads, before, strict=True)),
        "every member answers",
    )


@each_etcd_version
def test_followers_first_and_the_leader_last_under_load(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(extra_args=STEADY)
    with Site.on(cluster) as site:
        fragment(cluster, site.client)
        before, leader = site.sizes(), site.leader()
        assert len(site.job().plan().plan.chosen) == 3
        assert site.client.calls == [], "a plan changes nothing"
        handed_over: list[float] = []

        def sleep(seconds: float) -> None:
            if seconds == POLICY.leader_settle:
                handed_over.append(time.monotonic())
            time.sleep(seconds)

        with load(cluster) as loads:
            await_more(loads)
            report = site.job(POLICY, sleep=sleep).run()
            await_more(loads)

        assert (report.outcome, report.reason) == ("done", None)
        assert [one.outcome for one in report.results] == ["done"] * 3
        assert all(after < size / 2 for after, size in zip(site.sizes(), before, strict=True))

        order = site.client.endpoints_of("defragment")
        assert sorted(order) == sorted(cluster.client_urls)
        assert order[-1] == leader
        by_id = {site.client.status(url).member_id: url for url in cluster.client_urls}
        assert order == [by_id[one.member.id] for one in report.plan.chosen]
        assert [one.name for one in site.client.calls] == [
            "defragment",
            "defragment",
            "move_leader",
            "defragment",
        ]
        assert site.client.endpoints_of("move_leader") == [leader]
        assert site.leader() in order[:2]
        assert site.backups == 1
        assert [event["outcome"] for event in site.events] == ["done"]

        (elected,) = handed_over
        for one in loads:
            excused = [
                (call.began, elected if call.name == "move_leader" else call.ended)
                for call in site.client.calls
                if call.name == "move_leader" or call.endpoint == one.endpoint
            ]
            unexcused = [
                (began, ended, why)
                for began, ended, why in one.failed
                if not any(began <= last and ended >= first for first, last in excused)
            ]
            assert unexcused == []

        assert site.job().run().outcome == "nothing"
        assert len(site.client.calls) == 4
