"""One look at all members of a cluster: statuses and metrics, cheap enough for every minute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.metrics import Page, Scraper, quota_bytes
from etcdguard.etcd.reach import reach
from etcdguard.etcd.source import EndpointFailure
from etcdguard.maintenance.checks.facts import MemberFacts, Sample, counters_of
from etcdguard.maintenance.checks.history import History
from etcdguard.model import ClusterTopology, Member, MemberStatus

__all__ = ["Look", "Looker"]


@dataclass(frozen=True)
class Look:
    """What was seen; ``strangers`` are endpoints that lead to no member of the cluster."""

    members: Sequence[MemberFacts]
    strangers: Sequence[str]
    sample: Sample


@dataclass(frozen=True)
class Looker:
    """Looks. ``quota``: the configured one in bytes, for members that do not tell theirs."""

    client: EtcdClient
    scraper: Scraper
    options: ConnectionOptions
    now: Callable[[], datetime]
    quota: int | None = None

    def remember(self, history: History | None) -> History:
        """``history`` with one more sample. Raises EtcdUnreachable when nobody knows the members."""
        topology = self.client.topology()
        sample = self.look(topology).sample
        return (history or History(topology.cluster_id)).with_sample(topology.cluster_id, sample)

    def look(self, topology: ClusterTopology) -> Look:
        """Every member, at the endpoint that leads to it, else at the URLs it advertises."""
        asked = self.client.statuses()
        answers = [one for one in asked if isinstance(one, MemberStatus)]
        mine = [one for one in answers if one.cluster_id == topology.cluster_id]
        by_id = {one.member_id: one for one in reversed(mine) if topology.by_id(one.member_id) is not None}
        strangers = [one.endpoint for one in answers if by_id.get(one.member_id) is None or one not in mine]
        failures = {one.endpoint: one.error for one in asked if isinstance(one, EndpointFailure)}

        def status(member: Member) -> MemberStatus | EtcdGuardError:
            if member.id in by_id:
                return by_id[member.id]
            urls = [url for url in member.client_urls if self._canonical(url) not in failures]
            if not urls and member.client_urls:
                return failures[self._canonical(member.client_urls[0])]
            found = reach(self.client.status, member.id, urls)
            if isinstance(found, MemberStatus) and found.member_id != member.id:
                return ClusterUnhealthy(
                    f"{found.endpoint} leads to another member",
                    hint="add an endpoint that leads to every member to cluster.endpoints",
                )
            return found

        with ThreadPoolExecutor(max(1, len(topology.members)), thread_name_prefix="check") as pool:
            statuses = dict(pool.map(lambda one: (one.id, status(one)), topology.members))
        pages, problems = self._pages(statuses)
        members = [self._member(one, statuses[one.id], pages, problems) for one in topology.members]
        return Look(
            members,
            strangers,
            Sample(
                self.now(),
                {key: one for key, one in statuses.items() if isinstance(one, MemberStatus)},
                {key: counters_of(page.metrics) for key, page in pages.items() if key in statuses},
            ),
        )

    def _canonical(self, url: str) -> str:
        return str(self.options.address(url))

    def _pages(
        self, statuses: Mapping[str, MemberStatus | EtcdGuardError]
    ) -> tuple[dict[str, Page], list[EndpointFailure]]:
        """Pages by member id. Where metrics have no URLs of their own, members beyond the endpoints too."""
        found = self.scraper.pages(
            [one.endpoint for one in statuses.values() if isinstance(one, MemberStatus)]
        )
        pages = {one.member_id: one for one in found if isinstance(one, Page)}
        return pages, [one for one in found if isinstance(one, EndpointFailure)]

    def _member(
        self,
        member: Member,
        status: MemberStatus | EtcdGuardError,
        pages: Mapping[str, Page],
        problems: Sequence[EndpointFailure],
    ) -> MemberFacts:
        page = pages.get(member.id)
        quota, problem = None, None
        if isinstance(status, MemberStatus):
            told = quota_bytes(status, None if page is None else page.metrics)
            quota = self.quota if told is None else told
            if page is None:
                own = [one for one in problems if one.endpoint == status.endpoint]
                problem = next((one.error.message for one in own or problems), "no metrics URL leads to it")
        return MemberFacts(
            member=member,
            status=status,
            quota=quota,
            skew=None if page is None else page.least_skew,
            metrics_problem=problem,
        )
