"""What is proven of a restored cluster, and what is not taken for proof."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable
from etcdguard.etcd.client import Alarm
from etcdguard.etcd.tools import Tool
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices, make_plan
from etcdguard.restore.prove import CANARY_PREFIX, Proof, prove, raise_unproven
from etcdguard.restore.services import Patience
from tests.support.restores import NOW, make_manifest

NAMES = ("m1", "m2", "m3")
RECORDED = HashKV(hash=7, revision=5033, compact_revision=40)


def make(*, bump: int | None = None) -> RestorePlan:
    return make_plan(
        make_manifest(revision=5033),
        (),
        Choices(bump=bump, mark_compacted=bump is not None),
        Tool(Path("/usr/bin/etcdutl"), (3, 5, 26), "etcdutl"),
        node="cp1",
        now=NOW,
        token_hex=secrets.token_hex,
    )


@dataclass
class Time:
    """Passes only while somebody sleeps."""

    seconds: float = 0.0
    wakes: list[Callable[[], None]] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self.wakes:
            self.wakes.pop(0)()

    def patience(self, seconds: float = 10.0) -> Patience:
        return Patience(seconds, lambda: self.seconds, self.sleep)


class FakeCluster:
    """Three members as the plan wants them; a test changes what it wants to see noticed."""

    def __init__(self, plan: RestorePlan) -> None:
        self.topologies = ClusterTopology(
            plan.cluster_id,
            tuple(
                Member(
                    id=member.member_id,
                    name=member.name,
                    peer_urls=member.peer_urls,
                    client_urls=member.client_urls,
                )
                for member in plan.members
            ),
        )
        self.members = {
            member.client_urls[0]: MemberStatus(
                endpoint=member.client_urls[0],
                cluster_id=plan.cluster_id,
                member_id=member.member_id,
                version="3.5.30",
                storage_version=None,
                db_size=1,
                db_size_in_use=1,
                db_size_quota=None,
                leader_id=plan.members[1].member_id,
                raft_term=2,
                raft_index=9,
                raft_applied_index=9,
                is_learner=False,
                errors=(),
                revision=plan.revision,
            )
            for member in plan.members
        }
        self.urls = tuple(self.members)
        self.hashes = dict.fromkeys(self.urls, RECORDED)
        self.raised: tuple[Alarm, ...] = ()
        self.login = False
        self.keys: dict[bytes, bytes] = {}
        self.written: list[tuple[str, bytes]] = []
        self.failures: list[Exception] = []

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self.urls

    def change(self, url: str, **changes: object) -> None:
        self.members[url] = replace(self.members[url], **changes)  # type: ignore[arg-type]

    def status(self, endpoint: str) -> MemberStatus:
        if endpoint not in self.members:
            raise EtcdUnreachable(f"{endpoint}: connection refused", hint="start it")
        return self.members[endpoint]

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        self.status(endpoint or self.urls[0])
        return self.topologies

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        found = self.hashes[endpoint]
        return found if found.revision == revision else None

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        return self.raised

    def requires_login(self, endpoint: str) -> bool:
        return self.login

    def put(self, endpoint: str, key: bytes, value: bytes) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.written.append((endpoint, key))
        self.keys[key] = value

    def get(self, endpoint: str, key: bytes) -> bytes | None:
        return self.keys.get(key)

    def delete(self, endpoint: str, key: bytes) -> None:
        self.keys.pop(key, None)


@pytest.fixture
def plan() -> RestorePlan:
    return make()


@pytest.fixture
def cluster(plan: RestorePlan) -> FakeCluster:
    return FakeCluster(plan)


def run(
    plan: RestorePlan, cluster: FakeCluster, recorded: HashKV | None = RECORDED, time: Time | None = None
) -> dict[str, Proof]:
    proofs = prove(plan, recorded, cluster, (time or Time()).patience(), nonce="n0nce")
    return {proof.name: proof for proof in proofs}


def failed(proofs: dict[str, Proof]) -> list[str]:
    return [name for name, proof in proofs.items() if not proof.ok]


def test_a_cluster_as_planned_is_proven(plan: RestorePlan, cluster: FakeCluster) -> None:
    time = Time()
    proofs = run(plan, cluster, time=time)

    assert list(proofs) == ["members", "leader", "revision", "hash", "alarms", "auth", "canary"]
    assert failed(proofs) == []
    assert proofs["leader"].found == "all follow m2"
    assert proofs["hash"].found.endswith("on all 3 and in the manifest")
    assert cluster.written == [(cluster.urls[0], f"{CANARY_PREFIX}n0nce".encode())]
    assert cluster.keys == {}
    assert time.seconds == 0
    raise_unproven(tuple(proofs.values()))


def test_members_may_take_their_time(plan: RestorePlan, cluster: FakeCluster) -> None:
    late = cluster.members.pop(cluster.urls[2])
    for url in cluster.urls[:2]:
        cluster.change(url, leader_id="0")

    def elect() -> None:
        for url in cluster.urls[:2]:
            cluster.change(url, leader_id=plan.members[1].member_id)

    time = Time(wakes=[lambda: None, elect, lambda: cluster.members.__setitem__(cluster.urls[2], late)])

    assert failed(run(plan, cluster, time=time)) == []
    assert 0 < time.seconds < 1


def test_the_deadline_ends_the_wait_and_names_what_is_missing(
    plan: RestorePlan, cluster: FakeCluster
) -> None:
    del cluster.members[cluster.urls[2]]
    time = Time()

    proofs = run(plan, cluster, time=time)

    assert list(proofs) == ["members", "leader", "revision"]
    assert failed(proofs) == ["members"]
    assert "m3 " in proofs["members"].found
    assert "connection refused" in proofs["members"].found
    assert 10 <= time.seconds < 11
    with pytest.raises(ClusterUnhealthy, match=r"members: m3 .*connection refused") as error:
        raise_unproven(tuple(proofs.values()))
    assert error.value.exit_code == 5
    assert error.value.hint
    assert cluster.written == []


def test_a_member_of_another_cluster_is_no_member(plan: RestorePlan, cluster: FakeCluster) -> None:
    cluster.change(cluster.urls[0], cluster_id="cafe")

    assert "m1 is member" in run(plan, cluster)["members"].found


def test_listed_members_must_be_those_planned(plan: RestorePlan, cluster: FakeCluster) -> None:
    whole = cluster.topologies.members
    learner = whole[2].model_copy(update={"is_learner": True})
    unstarted = whole[2].model_copy(update={"name": ""})
    zombie = whole[2].model_copy(update={"id": "bad", "name": "m9"})
    for members, found in (
        (whole[:2], "m3 is not listed"),
        ((*whole[:2], learner), "m3 is not listed"),
        ((*whole[:2], unstarted), "m3 is not listed"),
        ((*whole, zombie), "m9 \\(bad\\) is not of the plan"),
    ):
        cluster.topologies = ClusterTopology(plan.cluster_id, members)
        proofs = run(plan, cluster)
        assert failed(proofs) == ["members"]
        with pytest.raises(ClusterUnhealthy, match=found):
            raise_unproven(tuple(proofs.values()))


def test_two_leaders_and_none_are_no_leader(plan: RestorePlan, cluster: FakeCluster) -> None:
    cluster.change(cluster.urls[0], leader_id=plan.members[0].member_id)
    assert failed(run(plan, cluster)) == ["leader"]

    for url in cluster.urls:
        cluster.change(url, leader_id="0")
    proofs = run(plan, cluster)
    assert failed(proofs) == ["leader"]
    assert "m1 follows none" in proofs["leader"].found


def test_no_member_may_lag_behind_the_plan_and_later_writes_are_told(
    plan: RestorePlan, cluster: FakeCluster
) -> None:
    cluster.change(cluster.urls[0], revision=plan.revision + 2)
    assert "and 2 written since" in run(plan, cluster)["revision"].found

    cluster.change(cluster.urls[1], revision=plan.revision - 1)
    proofs = run(plan, cluster)
    assert failed(proofs) == ["revision"]
    assert f"m2 {plan.revision - 1}" in proofs["revision"].found


def test_unequal_hashes_and_a_hash_unlike_the_manifests_are_refused(
    plan: RestorePlan, cluster: FakeCluster
) -> None:
    cluster.hashes[cluster.urls[2]] = RECORDED.model_copy(update={"hash": 8})
    proofs = run(plan, cluster)
    assert failed(proofs) == ["hash"]
    assert "not equal" in proofs["hash"].found

    cluster.hashes = {url: RECORDED.model_copy(update={"hash": 8}) for url in cluster.urls}
    proofs = run(plan, cluster)
    assert failed(proofs) == ["hash"]
    assert "but the manifest says 00000007" in proofs["hash"].found


def test_hashes_that_cannot_be_compared_with_the_manifests_say_so(
    plan: RestorePlan, cluster: FakeCluster
) -> None:
    assert "the manifest has none" in run(plan, cluster, None)["hash"].found

    cluster.hashes = {url: RECORDED.model_copy(update={"compact_revision": 41}) for url in cluster.urls}
    proof = run(plan, cluster)["hash"]
    assert proof.ok
    assert "not comparable with the manifest's" in proof.found

    older = RECORDED.model_copy(update={"revision": 3})  # compacted since: hashed at what all have instead
    proof = run(plan, cluster, older)["hash"]
    assert proof.ok
    assert "not comparable with the manifest's" in proof.found

    bumped = make(bump=1000)
    lifted = FakeCluster(bumped)
    lifted.hashes = {url: HashKV(hash=9, revision=6033, compact_revision=6033) for url in lifted.urls}
    proof = run(bumped, lifted)["hash"]
    assert proof.ok
    assert "the bump has moved the compaction" in proof.found


def test_no_space_is_told_and_only_reads_are_tried(plan: RestorePlan, cluster: FakeCluster) -> None:
    cluster.raised = (Alarm(plan.members[0].member_id, "NOSPACE"),)

    proofs = run(plan, cluster)

    assert failed(proofs) == []
    assert proofs["alarms"].found.startswith("NOSPACE on m1")
    assert "disarm" in proofs["alarms"].hint
    assert "writes wait for the alarm" in proofs["canary"].found
    assert cluster.written == []


def test_corruption_is_no_proof(plan: RestorePlan, cluster: FakeCluster) -> None:
    cluster.raised = (Alarm(plan.members[0].member_id, "CORRUPT"), Alarm("77", "NOSPACE"))

    proofs = run(plan, cluster)

    assert "alarms" in failed(proofs)
    assert proofs["alarms"].found == "CORRUPT on m1, NOSPACE on 77"


def test_the_state_of_logins_is_told(plan: RestorePlan, cluster: FakeCluster) -> None:
    assert run(plan, cluster)["auth"].found.startswith("off")
    cluster.login = True
    assert run(plan, cluster)["auth"].found.startswith("on")


def test_a_failed_write_is_tried_again_until_the_deadline(plan: RestorePlan, cluster: FakeCluster) -> None:
    lost = ClusterUnhealthy("etcd cannot serve: leader changed", hint="wait")
    cluster.failures = [lost, lost]
    assert failed(run(plan, cluster)) == []

    cluster.failures = [lost] * 1000
    proofs = run(plan, cluster)
    assert failed(proofs) == ["canary"]
    assert "leader changed" in proofs["canary"].found
    assert f"{CANARY_PREFIX}n0nce may be left" in proofs["canary"].hint


def test_a_write_that_is_not_read_back_is_no_proof(
    plan: RestorePlan, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "get", lambda endpoint, key: None)
    assert failed(run(plan, cluster)) == ["canary"]


def test_members_without_planned_urls_are_found_where_the_cluster_lists_them(
    plan: RestorePlan, cluster: FakeCluster
) -> None:
    members = tuple(member.model_copy(update={"client_urls": ()}) for member in plan.members)
    bare = plan.model_copy(update={"members": members})

    assert failed(run(bare, cluster)) == []

    cluster.members.clear()
    assert "has no known client URL" in run(bare, cluster)["members"].found


def test_a_member_that_goes_while_it_is_asked_who_is_there_is_passed_over(
    plan: RestorePlan, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = cluster.urls
    answer, asked = cluster.topology, list[str | None]()

    def topology(endpoint: str | None = None) -> ClusterTopology:
        asked.append(endpoint)
        if endpoint == first:
            raise EtcdUnreachable("reset", hint="x")
        return answer(endpoint)

    monkeypatch.setattr(cluster, "topology", topology)
    assert failed(run(plan, cluster)) == []
    assert first in asked
