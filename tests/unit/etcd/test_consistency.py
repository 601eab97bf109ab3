"""Hashes are compared only where they say something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.consistency import compare, judge
from etcdguard.model import HashKV, MemberStatus

ALIKE = {"m1": "3.5.30", "m2": "3.5.26", "m3": "3.5.26"}


def hashed(number: int, revision: int = 10, compacted: int = 4) -> HashKV:
    return HashKV(hash=number, revision=revision, compact_revision=compacted)


@pytest.mark.parametrize(
    ("hashes", "outcome", "found"),
    [
        ({"m1": hashed(7), "m2": hashed(7)}, "equal", "00000007 at revision 10 (compacted 4) on all 2"),
        ({"m1": hashed(7), "m2": hashed(8)}, "different", "m2 00000008"),
        ({"m1": hashed(7), "m2": hashed(8, compacted=5)}, "inconclusive", "not comparable"),
        ({"m1": hashed(7), "m2": hashed(7, revision=9)}, "inconclusive", "not comparable"),
        ({"m1": hashed(7), "m2": None}, "inconclusive", "m2 none"),
        ({"m1": hashed(7), "m2": hashed(8), "m3": None}, "different", "m3 none"),
        ({"m1": hashed(7), "m2": hashed(8), "m3": hashed(8, compacted=5)}, "different", "m2 00000008"),
        ({"m1": hashed(7), "m2": hashed(7), "m3": hashed(8, compacted=5)}, "inconclusive", "compacted 5"),
        ({}, "inconclusive", "no member was asked"),
    ],
)
def test_only_hashes_of_the_same_revisions_are_compared(
    hashes: Mapping[str, HashKV | None], outcome: str, found: str
) -> None:
    result = judge(hashes, ALIKE)

    assert result.outcome == outcome
    assert found in result.found
    assert (result.common is not None) == (outcome == "equal")


def test_members_of_different_release_lines_are_not_compared() -> None:
    result = judge({"m1": hashed(7), "m2": hashed(8)}, {"m1": "3.5.30", "m2": "3.6.1"})

    assert result.outcome == "inconclusive"
    assert "3.5, 3.6" in result.found


@dataclass
class Members:
    """Two members; ``rounds`` gives the hashes of each round."""

    rounds: tuple[Mapping[str, HashKV | None], ...]
    revisions: Mapping[str, int] = field(default_factory=lambda: {"u1": 12, "u2": 10})
    asked: list[tuple[str, int]] = field(default_factory=list)

    def status(self, endpoint: str) -> MemberStatus:
        if endpoint not in self.revisions:
            raise EtcdUnreachable(f"{endpoint}: connection refused", hint="start it")
        return MemberStatus(
            endpoint=endpoint,
            cluster_id="c",
            member_id=endpoint,
            version="3.5.30",
            storage_version=None,
            db_size=1,
            db_size_in_use=1,
            db_size_quota=None,
            leader_id="u1",
            raft_term=1,
            raft_index=1,
            raft_applied_index=1,
            is_learner=False,
            errors=(),
            revision=self.revisions[endpoint],
        )

    def hash_kv(self, endpoint: str, revision: int, timeout: float) -> HashKV | None:
        assert timeout == 5.0
        number = sum(1 for one, _ in self.asked if one == endpoint)
        self.asked.append((endpoint, revision))
        return self.rounds[number][endpoint]


def no_sleep(seconds: float) -> None:
    raise AssertionError("nothing was to be waited for")


ENDPOINTS = {"m1": "u1", "m2": "u2"}
SAME: Mapping[str, HashKV | None] = {"u1": hashed(7), "u2": hashed(7)}
TORN: Mapping[str, HashKV | None] = {"u1": hashed(7), "u2": hashed(8)}
MOVED: Mapping[str, HashKV | None] = {"u1": hashed(7), "u2": None}


def test_the_slowest_members_revision_is_hashed() -> None:
    members = Members((SAME,))

    result = compare(members, ENDPOINTS, timeout=5.0, sleep=no_sleep)

    assert result.outcome == "equal"
    assert sorted(members.asked) == [("u1", 10), ("u2", 10)]


def test_a_revision_may_be_asked_for() -> None:
    members = Members((SAME,))

    compare(members, ENDPOINTS, timeout=5.0, sleep=no_sleep, revision=3)

    assert sorted(members.asked) == [("u1", 3), ("u2", 3)]


def test_what_passes_is_asked_again_and_what_stays_is_told() -> None:
    waits: list[float] = []

    result = compare(
        Members(
            (
                TORN,
                MOVED,
                SAME,
            )
        ),
        ENDPOINTS,
        timeout=5.0,
        sleep=waits.append,
    )
    assert result.outcome == "equal"
    assert len(waits) == 2

    result = compare(
        Members(
            (
                TORN,
                TORN,
                TORN,
            )
        ),
        ENDPOINTS,
        timeout=5.0,
        sleep=waits.append,
    )
    assert result.outcome == "different"
    result = compare(
        Members(
            (
                TORN,
                TORN,
                MOVED,
            )
        ),
        ENDPOINTS,
        timeout=5.0,
        sleep=waits.append,
    )
    assert result.outcome == "inconclusive"


def test_a_member_that_is_not_there_raises() -> None:
    with pytest.raises(EtcdUnreachable, match="u3"):
        compare(Members(()), {**ENDPOINTS, "m3": "u3"}, timeout=5.0, sleep=no_sleep)
