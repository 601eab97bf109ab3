"""Asks a cluster everything that its checks judge; changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError
from etcdguard.etcd.certificates import presented_certificate, read_certificates
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import Address, ConnectionOptions, Tls
from etcdguard.etcd.consistency import Consistency, compare
from etcdguard.etcd.metrics import Page, Scraper, quota_bytes
from etcdguard.etcd.reach import reach
from etcdguard.etcd.source import Alarm, EndpointFailure
from etcdguard.maintenance.checks.facts import (
    Certified,
    ClusterFacts,
    Disk,
    KeySpace,
    MemberFacts,
    Sample,
    SizePoint,
    Unknown,
    counters_of,
)
from etcdguard.maintenance.checks.key_space import read_key_space
from etcdguard.model import ClusterTopology, Member, MemberStatus

__all__ = ["Gatherer", "Sources"]

_HASH_SECONDS = 10.0
_HASH_BYTES_PER_SECOND = 20 * 1024 * 1024
"""A fifth of what is usual, on a disk that is busy."""

SMALL = 32 * 1024 * 1024
"""A database of at most this many bytes in use is read for its values without being asked to."""


@dataclass(frozen=True)
class Sources:
    """What the gathering may use. ``data_dirs``: by member name, those on this machine."""

    client: EtcdClient
    scraper: Scraper
    options: ConnectionOptions
    now: Callable[[], datetime]
    sleep: Callable[[float], None]
    data_dirs: Mapping[str, Path] = field(default_factory=dict)
    quota: int | None = None
    """The configured one, for members that do not tell theirs."""
    exclusive: Callable[[], AbstractContextManager[object]] = nullcontext
    """Held while members are hashed; raises Locked when somebody else burdens them."""
    backups: Callable[[], Sequence[SizePoint]] = tuple
    """The sizes that the newest backups recorded; may raise."""


class Gatherer:
    """One round of questions. ``sample`` alone is cheap enough for every minute."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._client = sources.client

    def facts(
        self,
        *,
        window: float,
        hash_kv: bool = True,
        read_values: bool = False,
        earlier: Sequence[Sample] = (),
    ) -> ClusterFacts:
        """Everything now. Without ``earlier`` samples, two are taken ``window`` seconds apart.

        ``hash_kv`` scans every member's database, one member after the other. ``read_values`` reads all
        values also of a large database. Raises EtcdUnreachable only when nobody can say who the members are.
        """
        topology = self._client.topology()
        if not earlier:
            earlier = (self._look(topology).sample,)
            self._from.sleep(window)
        look = self._look(topology)
        voters = {
            one.name: one.status.endpoint
            for one in look.members
            if isinstance(one.status, MemberStatus) and not one.member.is_learner
        }
        return ClusterFacts(
            topology=topology,
            members=look.members,
            strangers=look.strangers,
            quorum=self._quorum(tuple(voters.values())),
            alarms=self._alarms(tuple(voters.values()), look.sample.statuses.values()),
            samples=(*earlier, look.sample),
            consistency=self._consistency(look.members, voters) if hash_kv else Unknown("not asked for"),
            certificates=self.certificates(tuple(voters.values())),
            disks=self._disks(look.members),
            sizes=self._sizes(),
            key_space=self._key_space(look.members, always=read_values),
            now=self._from.now(),
        )

    def sample(self) -> Sample:
        """Statuses and counters of all members, for ``earlier`` of a later round."""
        return self._look(self._client.topology()).sample

    # -- members -----------------------------------------------------------------------------------------

    def _look(self, topology: ClusterTopology) -> _Look:
        """Every member, at the endpoint that leads to it, else at the URLs it advertises."""
        asked = self._client.statuses()
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
            found = reach(self._client.status, member.id, urls)
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
        return _Look(
            members,
            strangers,
            Sample(
                self._from.now(),
                {key: one for key, one in statuses.items() if isinstance(one, MemberStatus)},
                {key: counters_of(page.metrics) for key, page in pages.items() if key in statuses},
            ),
        )

    def _canonical(self, url: str) -> str:
        return str(self._from.options.address(url))

    def _pages(
        self, statuses: Mapping[str, MemberStatus | EtcdGuardError]
    ) -> tuple[dict[str, Page], list[EndpointFailure]]:
        """Pages by member id. Where metrics have no URLs of their own, members beyond the endpoints too."""
        found = self._from.scraper.pages(
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
            quota = self._from.quota if told is None else told
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

    # -- the cluster -------------------------------------------------------------------------------------

    def _quorum(self, endpoints: Sequence[str]) -> EtcdGuardError | None:
        """None when one of them answers a linearizable read, else the last error."""
        error: EtcdGuardError = ClusterUnhealthy("no voter answers", hint="start etcd on its hosts")
        for endpoint in endpoints:
            try:
                self._client.linearizable_read(endpoint)
            except EtcdGuardError as e:
                error = e
            else:
                return None
        return error

    def _alarms(
        self, endpoints: Sequence[str], statuses: Iterable[MemberStatus]
    ) -> tuple[Alarm, ...] | Unknown:
        """As etcd lists them, which takes a quorum; without one, those that members mention are something."""
        why = "no member answers"
        for endpoint in endpoints:
            try:
                return self._client.alarms(endpoint)
            except EtcdGuardError as e:
                why = e.message
        told = (Alarm.parse(error) for status in statuses for error in status.errors)
        return tuple(dict.fromkeys(alarm for alarm in told if alarm is not None)) or Unknown(why)

    def _consistency(
        self, members: Sequence[MemberFacts], endpoints: Mapping[str, str]
    ) -> Consistency | Unknown:
        if not endpoints:
            return Unknown("no voter answers")
        if len(endpoints) == 1 and sum(not one.member.is_learner for one in members) > 1:
            return Unknown("only one voter answers: there is nothing to compare it with")
        largest = max(one.status.db_size for one in members if isinstance(one.status, MemberStatus))
        timeout = _HASH_SECONDS + largest / _HASH_BYTES_PER_SECOND
        try:
            with self._from.exclusive():
                return compare(
                    self._client, endpoints, timeout=timeout, sleep=self._from.sleep, at_once=False
                )
        except EtcdGuardError as e:
            return Unknown(e.message)

    # -- around it ---------------------------------------------------------------------------------------

    def certificates(self, endpoints: Sequence[str] = ()) -> list[Certified | Unknown]:
        """Those we use, and those that the configured endpoints and ``endpoints`` show, valid or not."""
        options = self._from.options
        found: list[Certified | Unknown] = []
        for what, path in (("client", options.cert), ("authority", options.cacert)):
            if path is not None:
                found += self._read(what, path)
        addresses = dict.fromkeys(map(options.address, [*self._client.endpoints, *endpoints]))
        return found + [self._shown(one) for one in addresses if one.secure]

    def _read(self, what: str, path: Path) -> list[Certified | Unknown]:
        try:
            return [Certified(f"{what} {path}", one) for one in read_certificates(path)]
        except EtcdGuardError as e:
            return [Unknown(e.message)]

    def _shown(self, address: Address) -> Certified | Unknown:
        options = self._from.options
        try:
            shown = presented_certificate(address, self._tls, options.command_timeout)
        except EtcdGuardError as e:
            return Unknown(e.message)
        return Certified(f"server {address}", shown)

    @cached_property
    def _tls(self) -> Tls:
        return Tls(self._from.options)

    def _disks(self, members: Sequence[MemberFacts]) -> list[Disk] | Unknown:
        sizes = {one.name: one.status.db_size for one in members if isinstance(one.status, MemberStatus)}
        found: list[Disk] = []
        for name, path in self._from.data_dirs.items():
            try:
                usage = shutil.disk_usage(path)
            except OSError as e:
                return Unknown(f"{path}: {e.strerror}")
            found.append(Disk(name, path, usage.free, usage.total, sizes.get(name)))
        return found or Unknown("no member's data directory is configured on this machine")

    def _sizes(self) -> Sequence[SizePoint] | Unknown:
        try:
            return self._from.backups()
        except EtcdGuardError as e:
            return Unknown(e.message)

    def _key_space(self, members: Sequence[MemberFacts], *, always: bool) -> KeySpace | Unknown:
        """From a follower's own store, so that neither the leader nor the quorum is asked."""
        answered = [one.status for one in members if isinstance(one.status, MemberStatus)]
        fit = sorted((one for one in answered if not one.is_learner), key=lambda one: one.is_leader)
        if not fit:
            return Unknown("no voter answers")
        status = fit[0]
        size = status.db_size if status.db_size_in_use is None else status.db_size_in_use
        if size > SMALL and not always:
            return Unknown("not read: the database is too large to do so unasked (--read-values)")
        try:
            return read_key_space(self._client, status.endpoint)
        except EtcdGuardError as e:
            return Unknown(e.message)


@dataclass(frozen=True)
class _Look:
    members: Sequence[MemberFacts]
    strangers: Sequence[str]
    sample: Sample
