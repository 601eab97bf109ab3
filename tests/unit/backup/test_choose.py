from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.backup.choose import (
    MOST_REVISIONS_BEHIND,
    MOST_UNAPPLIED,
    Choice,
    Preference,
    choose_member,
)
from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, UsageError
from etcdguard.etcd.source import EndpointFailure
from etcdguard.model import ClusterTopology, Member, MemberStatus

IDS = ("a1", "b2", "c3")
LEADER = "a1"


def status(member_id: str, **changes: Any) -> MemberStatus:
    facts: dict[str, Any] = {
        "endpoint": f"https://{member_id}:2379",
        "cluster_id": "c0ffee",
        "member_id": member_id,
        "version": "3.6.5",
        "storage_version": "3.6.0",
        "db_size": 4096,
        "db_size_in_use": 4096,
        "db_size_quota": None,
        "leader_id": LEADER,
        "raft_term": 7,
        "raft_index": 10_000,
        "raft_applied_index": 10_000,
        "is_learner": False,
        "errors": (),
        "revision": 5_000,
    }
    return MemberStatus(**facts | changes)


def failure(member_id: str, why: str = "connection refused") -> EndpointFailure:
    endpoint = f"https://{member_id}:2379"
    return EndpointFailure(endpoint, EtcdUnreachable(f"{endpoint}: {why}", hint="start it"))


TOPOLOGY = ClusterTopology(
    "c0ffee",
    tuple(
        Member(id=one, name=f"etcd-{one}", peer_urls=(f"https://{one}:2380",), client_urls=()) for one in IDS
    ),
)


def choose(statuses: Sequence[MemberStatus | EndpointFailure], **options: Any) -> Choice:
    return choose_member(statuses, TOPOLOGY, **options)


@pytest.mark.parametrize(
    ("prefer", "chosen"), [("follower", "c3"), ("leader", "a1"), ("local", "b2")], ids=str
)
def test_preference_decides_among_the_fit(prefer: Preference, chosen: str) -> None:
    statuses = [status("a1"), status("b2", revision=4_998), status("c3")]
    assert choose(statuses, prefer=prefer, local_hosts={"b2"}).status.member_id == chosen


def test_a_lone_leader_is_better_than_nobody_and_the_reason_says_so() -> None:
    choice = choose([status("a1"), failure("b2"), failure("c3")])
    assert choice.status.member_id == "a1"
    assert choice.reason == "the leader; follower: none is fit"


def test_local_falls_back_to_a_follower() -> None:
    choice = choose([status("a1"), status("b2")], prefer="local", local_hosts={"elsewhere"})
    assert (choice.status.member_id, choice.reason) == ("b2", "a caught-up follower; local: none is fit")


UNFIT: dict[str, dict[str, Any]] = {
    "knows no leader": {"leader_id": "0"},
    "is a learner": {"is_learner": True},
    "has 101 entries to apply": {"raft_applied_index": 10_000 - MOST_UNAPPLIED - 1},
    "is 1001 revisions behind": {"revision": 5_000 - MOST_REVISIONS_BEHIND - 1},
    "alarm:CORRUPT": {"errors": ("memberID:178 alarm:CORRUPT ",)},
    "no leader": {"errors": ("etcdserver: no leader",)},
}


@pytest.mark.parametrize("why", UNFIT)
def test_an_unfit_follower_is_passed_over(why: str) -> None:
    assert choose([status("a1"), status("b2", **UNFIT[why])]).status.member_id == "a1"


@pytest.mark.parametrize("why", UNFIT)
def test_an_unfit_endpoint_is_refused_by_name_even_when_asked_for(why: str) -> None:
    with pytest.raises(ClusterUnhealthy, match=why) as raised:
        choose([status("a1"), status("b2", **UNFIT[why])], endpoint="https://b2:2379")
    assert "https://b2:2379" in raised.value.message
    assert "--emergency" in raised.value.hint


@pytest.mark.parametrize(
    "edge",
    [{"raft_applied_index": 10_000 - MOST_UNAPPLIED}, {"revision": 5_000 - MOST_REVISIONS_BEHIND}],
    ids=str,
)
def test_a_member_on_the_edge_is_fit(edge: dict[str, Any]) -> None:
    assert choose([status("a1"), status("b2", **edge)]).status.member_id == "b2"


@pytest.mark.parametrize("text", ["memberID:178 alarm:NOSPACE ", "memberID: 178  alarm: NOSPACE"])
def test_a_full_database_is_no_obstacle(text: str) -> None:
    assert choose([status("a1", errors=(text,)), status("b2", errors=(text,))]).status.member_id == "b2"


def test_a_removed_member_is_not_taken() -> None:
    with pytest.raises(ClusterUnhealthy, match="not a member any more"):
        choose([status("d4")])


@pytest.mark.parametrize("spelling", ["https://b2:2379", "b2:2379", "https://B2:2379/"])
def test_an_endpoint_overrides_the_preference(spelling: str) -> None:
    choice = choose([status("a1"), status("b2"), status("c3")], endpoint=spelling, prefer="leader")
    assert (choice.status.member_id, choice.reason) == ("b2", "the endpoint asked for")


def test_an_endpoint_that_was_not_asked_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="https://z9:2379"):
        choose([status("a1")], endpoint="https://z9:2379")


def test_one_dead_endpoint_keeps_its_own_error() -> None:
    with pytest.raises(EtcdUnreachable, match=r"^https://b2:2379: connection refused$"):
        choose([status("a1"), failure("b2")], endpoint="https://b2:2379")


def test_when_nobody_answers_every_reason_is_told_in_one_line() -> None:
    with pytest.raises(EtcdUnreachable) as raised:
        choose([failure("a1"), failure("b2", "certificate has expired")], emergency=True)
    assert raised.value.message == (
        "no endpoint answered: https://a1:2379: connection refused; https://b2:2379: certificate has expired"
    )
    assert raised.value.hint == "start it"


@pytest.mark.parametrize("emergency", [False, True])
def test_endpoints_of_different_clusters_are_refused(emergency: bool) -> None:
    statuses = [status("a1"), status("b2", cluster_id="bad")]
    with pytest.raises(ClusterUnhealthy, match="different clusters"):
        choose(statuses, emergency=emergency, endpoint="https://a1:2379")


def test_without_a_leader_the_hint_names_the_emergency() -> None:
    with pytest.raises(ClusterUnhealthy) as raised:
        choose([status("b2", leader_id="0"), failure("a1"), failure("c3")])
    assert raised.value.hint == "bring back a quorum, or take what one member has with --emergency"


def test_emergency_takes_the_newest_data_without_a_leader() -> None:
    statuses: list[MemberStatus | EndpointFailure] = [
        status("a1", leader_id="0", revision=4_000),
        status("b2", leader_id="0", revision=4_001),
        failure("c3"),
    ]
    choice = choose(statuses, emergency=True)
    assert choice.status.member_id == "b2"
    assert choice.reason == "emergency: the most advanced of 2 that answered"


def test_emergency_prefers_sound_data_then_voters() -> None:
    corrupt = "memberID:178 alarm:CORRUPT "  # 178 = 0xb2, told by every member
    statuses = [
        status("a1", errors=(corrupt,), revision=10),
        status("b2", errors=(corrupt,), revision=30),
        status("c3", errors=(corrupt,), revision=20, is_learner=True),
    ]
    assert choose(statuses, emergency=True).status.member_id == "a1"


answers = st.builds(
    status,
    st.sampled_from(IDS),
    leader_id=st.sampled_from(["0", *IDS]),
    is_learner=st.booleans(),
    revision=st.integers(0, 10_000),
    raft_applied_index=st.integers(9_000, 10_000),
    errors=st.sampled_from([(), ("etcdserver: no leader",), ("memberID:178 alarm:NOSPACE ",)]),
)


@given(st.lists(answers | st.sampled_from([failure(one) for one in IDS]), min_size=1), st.booleans())
def test_the_choice_always_answered_and_is_fit_unless_in_an_emergency(
    statuses: list[MemberStatus | EndpointFailure], emergency: bool
) -> None:
    answered = [one for one in statuses if isinstance(one, MemberStatus)]
    try:
        chosen = choose(statuses, emergency=emergency).status
    except (EtcdUnreachable, ClusterUnhealthy):
        assert not answered or not emergency
        return
    assert chosen in answered
    if not emergency:
        assert chosen.leader_id != "0"
        assert not chosen.is_learner
        assert chosen.raft_index - chosen.raft_applied_index <= MOST_UNAPPLIED
