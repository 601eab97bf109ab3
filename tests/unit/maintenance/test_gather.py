"""What a round of questions finds of a cluster that answers only in part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable, Locked, StoreUnavailable
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.metrics import Page, Scraper, parse_page
from etcdguard.etcd.source import Alarm, EndpointFailure
from etcdguard.maintenance.checks.facts import ClusterFacts, SizePoint, Unknown
from etcdguard.maintenance.checks.gather import SMALL, Gatherer, Sources
from etcdguard.maintenance.checks.history import History
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus
from tests.unit.maintenance.facts import DOWN, GIB, MIB, NOW, growing, sample, status

NO_LEADER = ClusterUnhealthy("no leader", hint="wait")
URLS = {number: f"http://m{number}:2379" for number in (1, 2, 3, 4)}
OPTIONS = ConnectionOptions(tuple(URLS[number] for number in (1, 2, 3)))


def member(number: int, *, learner: bool = False, urls: tuple[str, ...] | None = None) -> Member:
    client_urls = (URLS[number],) if urls is None else urls
    return Member(
        id=f"a{number}", name=f"m{number}", peer_urls=(), client_urls=client_urls, is_learner=learner
    )


@dataclass
class Cluster:
    """Members that answer at their URLs; ``without_quorum`` serve only themselves."""

    answers: dict[str, MemberStatus] = field(
        default_factory=lambda: {URLS[n]: status(n, db_size_in_use=1000) for n in (1, 2, 3)}
    )
    members: tuple[Member, ...] = tuple(member(n) for n in (1, 2, 3))
    without_quorum: set[str] = field(default_factory=set)
    key_error: EtcdGuardError | None = None
    asked: list[str] = field(default_factory=list)
    reached_for: list[str] = field(default_factory=list)

    endpoints = OPTIONS.endpoints

    def topology(self) -> ClusterTopology:
        return ClusterTopology("c", self.members)

    def status(self, endpoint: str) -> MemberStatus:
        self.reached_for.append(endpoint)
        if endpoint not in self.answers:
            raise DOWN
        return self.answers[endpoint]

    def statuses(self) -> list[MemberStatus | EndpointFailure]:
        return [self.answers.get(one) or EndpointFailure(one, DOWN) for one in self.endpoints]

    def linearizable_read(self, endpoint: str) -> None:
        if endpoint in self.without_quorum:
            raise NO_LEADER

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        if endpoint in self.without_quorum:
            raise NO_LEADER
        return (Alarm("a1", "CORRUPT"),)

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        self.asked.append(f"hash {endpoint} within {timeout:g}")
        return HashKV(hash=7, revision=revision, compact_revision=800)

    def entries(self, endpoint: str, start: bytes, limit: int) -> Sequence[tuple[bytes, int]]:
        self.asked.append(f"keys {endpoint}")
        if self.key_error is not None:
            raise self.key_error
        return [(b"/a/b/c", 10)]


class Pages(Scraper):
    """One page for each member that has a text."""

    def __init__(self, texts: dict[str, str] | None = None) -> None:
        super().__init__(OPTIONS, (), lambda: NOW)
        self._texts = texts or {}

    def pages(self, endpoints: Sequence[str] = ()) -> list[Page | EndpointFailure]:
        found: list[Page | EndpointFailure] = [
            Page(f"http://{key}:1", key, parse_page(text), NOW, (0.25, 1.5))
            for key, text in self._texts.items()
        ]
        return [*found, EndpointFailure(URLS[3], EtcdUnreachable("m3's page is away", hint="-"))]


def gathered(
    cluster: Cluster, *, scraper: Scraper | None = None, history: History | None = None, **sources: Any
) -> ClusterFacts:
    asked = {key: sources.pop(key) for key in ("hash_kv", "read_values") if key in sources}
    slept: list[float] = []
    gatherer = Gatherer(
        Sources(
            cast(EtcdClient, cluster), scraper or Pages(), sources.pop("options", OPTIONS),
            now=lambda: NOW + timedelta(seconds=sum(slept)), sleep=slept.append, **sources,
        )
    )  # fmt: skip
    return gatherer.facts(window=5.0, history=history, **asked)


def why(found: object) -> str:
    assert isinstance(found, Unknown)
    return found.why


def test_a_sound_cluster() -> None:
    cluster = Cluster()
    found = gathered(cluster)
    assert [one.status for one in found.members] == [cluster.answers[URLS[n]] for n in (1, 2, 3)]
    assert (found.quorum, found.alarms) == (None, (Alarm("a1", "CORRUPT"),))
    assert [(one.at - NOW).total_seconds() for one in found.samples] == [0.0, 5.0]
    assert not isinstance(found.consistency, Unknown)
    assert found.consistency.outcome == "equal"
    assert {one.split()[1] for one in cluster.asked if one.startswith("hash")} == set(OPTIONS.endpoints)
    assert "within 20" in cluster.asked[0], "10 s, and 10 s for 200 MiB"
    assert cluster.asked[-1] == f"keys {URLS[2]}", "a follower's, not the leader's"
    assert why(found.disks) == "no member's data directory is configured on this machine"


def test_a_sample_of_the_last_minute_spares_the_second_look() -> None:
    known = History("c").with_sample("c", replace(sample(0.0), at=NOW - timedelta(seconds=30)))
    assert [(one.at - NOW).total_seconds() for one in gathered(Cluster(), history=known).samples] == [-30, 0]
    stale = History("c").with_sample("c", replace(sample(0.0), at=NOW - timedelta(seconds=90)))
    assert len(gathered(Cluster(), history=stale).samples) == 3
    foreign = History("d").with_sample("d", replace(sample(0.0), at=NOW - timedelta(seconds=30)))
    assert len(gathered(Cluster(), history=foreign).samples) == 2


def test_what_is_not_asked_for_is_not_known() -> None:
    cluster = Cluster()
    assert why(gathered(cluster, hash_kv=False).consistency) == "not asked for"
    assert not any(one.startswith("hash") for one in cluster.asked)


def test_without_a_quorum_the_alarms_are_those_that_members_mention() -> None:
    cluster = Cluster(without_quorum=set(OPTIONS.endpoints))
    found = gathered(cluster)
    assert found.quorum is NO_LEADER
    assert why(found.alarms) == "no leader"
    for number in (1, 2):
        cluster.answers[URLS[number]] = replace(
            cluster.answers[URLS[number]], errors=("memberID:10 alarm:NOSPACE ", "etcdserver: no leader")
        )
    assert gathered(cluster).alarms == (Alarm("a", "NOSPACE"),)


def test_one_endpoint_with_a_quorum_behind_it_is_enough() -> None:
    found = gathered(Cluster(without_quorum={URLS[1], URLS[2]}))
    assert (found.quorum, found.alarms) == (None, (Alarm("a1", "CORRUPT"),))


def test_without_any_answer_nothing_is_known_of_the_data() -> None:
    cluster = Cluster(answers={})
    found = gathered(cluster)
    assert cluster.reached_for == [], "an endpoint that did not answer is not asked again"
    assert isinstance(found.quorum, ClusterUnhealthy)
    assert found.quorum.message == "no voter answers"
    assert [why(one) for one in (found.alarms, found.consistency, found.key_space)] == [
        "no member answers", "no voter answers", "no voter answers",
    ]  # fmt: skip
    assert [one.status for one in found.members] == [DOWN] * 3


def test_one_voter_alone_cannot_be_compared() -> None:
    cluster = Cluster({URLS[1]: status(1)})
    expected = "only one voter answers: there is nothing to compare it with"
    assert why(gathered(cluster).consistency) == expected
    learner = member(2, learner=True)
    alone = Cluster({URLS[1]: status(1)}, members=(member(1), learner))
    assert not isinstance(gathered(alone).consistency, Unknown), "it is the only one there is"


def test_a_learner_is_not_hashed() -> None:
    cluster = Cluster(members=(member(1), member(2), member(3, learner=True)))
    gathered(cluster)
    assert {one.split()[1] for one in cluster.asked if one.startswith("hash")} == {URLS[1], URLS[2]}


def test_a_cluster_that_somebody_burdens_is_not_hashed() -> None:
    def held() -> AbstractContextManager[object]:
        raise Locked("a defragmentation is going on", hint="-")

    cluster = Cluster()
    assert why(gathered(cluster, exclusive=held).consistency) == "a defragmentation is going on"
    assert not any(one.startswith("hash") for one in cluster.asked)


# -- values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "asked", "read"),
    [
        ({"db_size_in_use": SMALL}, False, True),
        ({"db_size_in_use": SMALL + 1}, False, False),
        ({"db_size_in_use": SMALL + 1}, True, True),
        ({"db_size_in_use": None, "db_size": SMALL + 1}, False, False),
        ({"db_size_in_use": None, "db_size": SMALL}, False, True),
    ],
)  # fmt: skip
def test_values_of_a_large_database_are_read_only_when_asked_to(
    size: dict[str, int | None], asked: bool, read: bool
) -> None:
    cluster = Cluster({URLS[n]: status(n, **size) for n in (1, 2, 3)})
    found = gathered(cluster, read_values=asked)
    assert any(one.startswith("keys") for one in cluster.asked) is read
    if not read:
        assert "--read-values" in why(found.key_space)


def test_values_that_cannot_be_read_are_not_known() -> None:
    assert why(gathered(Cluster(key_error=NO_LEADER)).key_space) == "no leader"


def test_a_learners_values_are_not_read() -> None:
    learner = status(3, is_learner=True, db_size_in_use=1)
    assert why(gathered(Cluster({URLS[3]: learner}), hash_kv=False).key_space) == "no voter answers"


# -- around it -------------------------------------------------------------------------------------------


def test_disks(tmp_path: Path) -> None:
    (disk,) = cast(list[Any], gathered(Cluster(), data_dirs={"m2": tmp_path}).disks)
    assert (disk.member, disk.path, disk.db_bytes) == ("m2", tmp_path, 200 * MIB)
    assert 0 < disk.free_bytes <= disk.total_bytes
    missing = tmp_path / "missing"
    found = gathered(Cluster(), data_dirs={"m2": tmp_path, "m1": missing}).disks
    assert why(found) == f"{missing}: No such file or directory"


def sizes(backups: Callable[[], Sequence[SizePoint]], history: History | None = None) -> Any:
    return gathered(Cluster(), backups=backups, history=history).sizes


def test_sizes_come_from_where_they_go_further_back() -> None:
    def away() -> Sequence[SizePoint]:
        raise StoreUnavailable("the repository is away", hint="-")

    recorded = growing(MIB)
    assert list(sizes(lambda: recorded)) == recorded
    told = History("c")
    for hour in range(72, 0, -1):
        told = told.with_sample("c", sample(3600.0 * hour))
    assert list(sizes(tuple, told)) == list(sizes(lambda: recorded, told)) == list(sizes(away, told))
    assert sizes(tuple, told)[0].at == NOW - timedelta(hours=72)
    assert why(sizes(away)) == "the repository is away"


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    options = replace(OPTIONS, cacert=broken, cert=tmp_path / "absent.pem", key=tmp_path / "absent.key")
    found = gathered(Cluster(), options=options).certificates
    assert [why(one) for one in found] == [
        f"{tmp_path / 'absent.pem'} cannot be read: No such file or directory",
        f"{broken} holds no certificate",
    ]


# -- members -----------------------------------------------------------------------------------------------


def test_a_member_beyond_the_endpoints_is_asked_where_it_advertises() -> None:
    cluster = Cluster()
    cluster.members = (*cluster.members, member(4))
    assert gathered(cluster).members[3].status is DOWN
    cluster.answers[URLS[4]] = status(4)
    assert gathered(cluster).members[3].status == status(4)


def test_an_address_where_somebody_else_answers_does_not_lead_to_it() -> None:
    cluster = Cluster()
    cluster.members = (*cluster.members, member(4))
    cluster.answers[URLS[4]] = status(1, endpoint=URLS[4])
    found = gathered(cluster).members[3].status
    assert isinstance(found, ClusterUnhealthy)
    assert found.message == f"{URLS[4]} leads to another member"


def test_a_member_that_advertises_nothing_cannot_be_found() -> None:
    cluster = Cluster({URLS[n]: status(n) for n in (1, 2)})
    cluster.members = (*cluster.members[:2], member(3, urls=()))
    found = gathered(cluster).members[2].status
    assert isinstance(found, EtcdUnreachable)
    assert found.message == "has no known client URL"


@pytest.mark.parametrize("member_id", ["d3", "a1"])
def test_an_endpoint_of_another_cluster_is_a_stranger(member_id: str) -> None:
    cluster = Cluster()
    cluster.answers[URLS[3]] = status(3, cluster_id="d", member_id=member_id)
    found = gathered(cluster)
    assert found.strangers == [URLS[3]]
    assert isinstance(found.members[2].status, ClusterUnhealthy)
    assert set(found.samples[-1].statuses) == {"a1", "a2"}


def test_what_the_metrics_add() -> None:
    texts = {"a1": f"etcd_server_quota_backend_bytes {3 * GIB}\n", "a9": ""}
    found = gathered(Cluster(), scraper=Pages(texts), quota=GIB)
    assert [one.quota for one in found.members] == [3 * GIB, GIB, GIB]
    assert [one.skew for one in found.members] == [0.25, None, None]
    assert [one.metrics_problem for one in found.members] == [None, "m3's page is away", "m3's page is away"]
    assert set(found.samples[-1].counters) == {"a1"}
