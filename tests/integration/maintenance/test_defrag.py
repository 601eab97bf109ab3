"""Defragmentation of real clusters: the order, under load.

No request fails but on the member that is being defragmented. The hand-over is an election, though a short
one: etcd drops what is proposed, and fails what is read, at that very moment, on whichever member.
"""

from __future__ import annotations

from tests.support.defrags import STEADY, Site, fragment, load
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version


@each_etcd_version
def test_followers_first_and_the_leader_last_under_load(cluster_factory: ClusterFactory) -> None:
    cluster = cluster_factory(extra_args=STEADY)
    with Site.on(cluster) as site:
        fragment(cluster, site.client)
        before, leader = site.sizes(), site.leader()
        assert len(site.job().plan().plan.chosen) == 3
        assert site.client.calls == [], "a plan changes nothing"
        with load(cluster) as loads:
            report = site.job().run()

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

        for one in loads:
            assert one.answered > 10
            excused = [
                call
                for call in site.client.calls
                if call.name == "move_leader" or call.endpoint == one.endpoint
            ]
            unexcused = [
                (began, ended, why)
                for began, ended, why in one.failed
                if not any(began <= call.ended and ended >= call.began for call in excused)
            ]
            assert unexcused == []

        assert site.job().run().outcome == "nothing"
        assert len(site.client.calls) == 4
