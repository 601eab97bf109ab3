"""Asks a cluster everything that its checks judge; changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from etcdguard.etcd.metrics import Scraper
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.checks.facts import (
    Certified,
    ClusterFacts,
    Disk,
    KeySpace,
    MemberFacts,
    SizePoint,
    Unknown,
)
from etcdguard.maintenance.checks.history import History
from etcdguard.maintenance.checks.key_space import read_key_space
from etcdguard.maintenance.checks.look import Looker
from etcdguard.maintenance.checks.trend import covers_enough, span
from etcdguard.model import MemberStatus

__all__ = ["Gatherer", "Sources"]

_MINUTE = 60.0
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
    """One round of questions."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._client = sources.client
        self._looker = Looker(
            sources.client, sources.scraper, sources.options, sources.now, quota=sources.quota
        )

    def facts(
        self,
        *,
        window: float,
        hash_kv: bool = True,
        read_values: bool = False,
        history: History | None = None,
    ) -> ClusterFacts:
        """Everything now, beside what ``history`` has of the same cluster.

        Where that has no sample of the last minute, two are taken ``window`` seconds apart.
        ``hash_kv`` scans every member's database, one member after the other. ``read_values`` reads all
        values also of a large database. Raises EtcdUnreachable only when nobody can say who the members are.
        """
        topology = self._client.topology()
        if history is None or history.cluster_id != topology.cluster_id:
            history = History(topology.cluster_id)
        now = self._from.now()
        if not any(window <= (now - one.at).total_seconds() <= _MINUTE for one in history.before(now)):
            history = history.with_sample(topology.cluster_id, self._looker.look(topology).sample)
            self._from.sleep(window)
        look = self._looker.look(topology)
        history = history.with_sample(topology.cluster_id, look.sample)
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
            samples=history.samples,
            consistency=self._consistency(look.members, voters) if hash_kv else Unknown("not asked for"),
            certificates=self.certificates(tuple(voters.values())),
            disks=self._disks(look.members),
            sizes=self._sizes(history),
            key_space=self._key_space(look.members, always=read_values),
            now=self._from.now(),
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

    def _sizes(self, history: History) -> Sequence[SizePoint] | Unknown:
        """As backups recorded them or as members told, whichever goes further back."""
        try:
            recorded = self._from.backups()
        except EtcdGuardError as e:
            return history.sizes if covers_enough(history.sizes) else Unknown(e.message)
        return max(recorded, history.sizes, key=span)

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
