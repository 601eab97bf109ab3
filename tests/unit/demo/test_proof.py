"""Every proof holds for what a restore should leave, and fails for anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from etcdguard.demo import proof
from etcdguard.demo.data import Contents
from etcdguard.demo.gateway import Lease, StoredKey
from etcdguard.model import ClusterTopology, HashKV, Member, MemberStatus

_NAMES = ("m1", "m2", "m3")
_RECORDED = HashKV(hash=7, revision=388, compact_revision=301)


def _member(member_id: str, **changed: Any) -> Member:
    member = Member(id=member_id, name=f"m{member_id}", peer_urls=(), client_urls=())
    return member.model_copy(update=changed)


def _status(member_id: str, **changed: Any) -> MemberStatus:
    status = MemberStatus(
        endpoint=f"http://127.0.0.1:{member_id}",
        cluster_id="cafe",
        member_id=member_id,
        version="3.6.1",
        storage_version=None,
        db_size=1,
        db_size_in_use=None,
        db_size_quota=None,
        leader_id="2",
        raft_term=2,
        raft_index=9,
        raft_applied_index=9,
        is_learner=False,
        errors=(),
        revision=388,
    )
    return replace(status, **changed)


_TOPOLOGY = ClusterTopology("cafe", tuple(map(_member, "123")))
_STATUSES = [_status("1"), _status("2"), _status("3")]


def _contents(**changed: Any) -> Contents:
    keys = {
        "/demo/a": StoredKey("one", 2, 5, 2, 0),
        "/demo/b": StoredKey("two", 3, 3, 1, 99),
    }
    lease = Lease(99, 3600, 3590, frozenset({"/demo/b"}))
    return replace(Contents(keys, lease), **changed)


def test_voters() -> None:
    assert proof.voters(_TOPOLOGY, _STATUSES, _NAMES).holds


@pytest.mark.parametrize(
    ("topology", "statuses"),
    [
        (_TOPOLOGY, _STATUSES[:2]),
        (_TOPOLOGY, [*_STATUSES[:2], _status("1")]),
        (_TOPOLOGY, [*_STATUSES[:2], _status("4")]),
        (ClusterTopology("cafe", _TOPOLOGY.members[:2]), _STATUSES),
        (ClusterTopology("cafe", (*_TOPOLOGY.members, _member("4"))), _STATUSES),
        (ClusterTopology("cafe", (*_TOPOLOGY.members[:2], _member("3", is_learner=True))), _STATUSES),
        (ClusterTopology("cafe", (*_TOPOLOGY.members[:2], _member("3", name=""))), _STATUSES),
    ],
)
def test_voters_fails(topology: ClusterTopology, statuses: list[MemberStatus]) -> None:
    assert not proof.voters(topology, statuses, _NAMES).holds


def test_leader() -> None:
    found = proof.leader(_TOPOLOGY, _STATUSES)
    assert (found.holds, found.found) == (True, "all follow m2")


@pytest.mark.parametrize("ids", [("2", "2", "3"), ("2", "2", "0"), ("0", "0", "0"), ("7", "7", "7")])
def test_leader_fails(ids: tuple[str, ...]) -> None:
    statuses = [_status(str(number), leader_id=leader) for number, leader in enumerate(ids, 1)]
    assert not proof.leader(_TOPOLOGY, statuses).holds


def test_cluster_id() -> None:
    assert proof.cluster_id(_STATUSES, "cafe", "beef").holds
    assert not proof.cluster_id(_STATUSES, "cafe", "cafe").holds
    assert not proof.cluster_id(_STATUSES, "f00d", "beef").holds
    assert not proof.cluster_id([*_STATUSES[:2], _status("3", cluster_id="beef")], "cafe", "beef").holds


@pytest.mark.parametrize(("revision", "holds"), [(388, True), (387, False), (389, False)])
def test_revision(revision: int, holds: bool) -> None:
    assert proof.revision([*_STATUSES[:2], _status("3", revision=revision)], 388).holds is holds


def _hashes(*numbers: int | None, **changed: Any) -> dict[str, HashKV | None]:
    return {
        name: None if number is None else _RECORDED.model_copy(update={"hash": number, **changed})
        for name, number in zip(_NAMES, numbers, strict=True)
    }


def test_hashes_equal_to_each_other_and_to_the_manifest() -> None:
    found = proof.hashes(_hashes(7, 7, 7), _RECORDED)
    assert found.holds
    assert found.found == "HashKV 00000007 at revision 388 (compacted 301) on all 3 and in the manifest"


@pytest.mark.parametrize("numbers", [(7, 7, 8), (7, 7, None), (None, None, None)])
@pytest.mark.parametrize("recorded", [_RECORDED, None])
def test_hashes_that_differ_or_are_missing_fail(
    numbers: tuple[int | None, ...], recorded: HashKV | None
) -> None:
    assert not proof.hashes(_hashes(*numbers), recorded).holds


def test_hashes_of_other_revisions_fail_even_if_the_number_is_the_same() -> None:
    found = _hashes(7, 7, 7)
    found["m3"] = _RECORDED.model_copy(update={"revision": 387})
    assert not proof.hashes(found, _RECORDED).holds


def test_hashes_unlike_the_manifest_fail() -> None:
    assert not proof.hashes(_hashes(8, 8, 8), _RECORDED).holds


@pytest.mark.parametrize("changed", [{"compact_revision": 300}, {"revision": 387}])
def test_hashes_that_cannot_be_compared_say_so(changed: dict[str, int]) -> None:
    found = proof.hashes(_hashes(8, 8, 8, **changed), _RECORDED)
    assert found.holds
    assert "not comparable" in found.found


def test_hashes_without_one_in_the_manifest_say_so() -> None:
    found = proof.hashes(_hashes(8, 8, 8), None)
    assert found.holds
    assert "the manifest has none" in found.found


def test_no_hashes_prove_nothing() -> None:
    assert not proof.hashes({}, _RECORDED).holds


def test_keys() -> None:
    assert proof.keys(_contents(), _contents()).holds


_BEFORE = _contents().keys


@pytest.mark.parametrize(
    ("after", "word"),
    [
        ({"/demo/a": _BEFORE["/demo/a"]}, "missing: /demo/b"),
        ({**_BEFORE, "/demo/c": _BEFORE["/demo/a"]}, "new: /demo/c"),
        *(
            ({**_BEFORE, "/demo/a": replace(_BEFORE["/demo/a"], **change)}, "changed: /demo/a")
            for change in (
                {"value": "other"},
                {"create_revision": 1},
                {"mod_revision": 6},
                {"version": 1},
                {"lease_id": 99},
            )
        ),
    ],
)
def test_keys_fails(after: dict[str, StoredKey], word: str) -> None:
    found = proof.keys(_contents(), _contents(keys=after))
    assert not found.holds
    assert word in found.found


def test_no_keys_prove_nothing() -> None:
    assert not proof.keys(_contents(keys={}), _contents(keys={})).holds


def test_deletes() -> None:
    assert proof.deletes(["/demo/gone"], "/demo/late", _contents()).holds
    assert not proof.deletes(["/demo/gone", "/demo/a"], "/demo/late", _contents()).holds
    assert not proof.deletes(["/demo/gone"], "/demo/a", _contents()).holds


def test_lease() -> None:
    assert proof.lease(_contents(), _contents()).holds


@pytest.mark.parametrize(
    "after",
    [
        Lease(99, 3600, 3590, frozenset()),
        Lease(99, 3600, -1, frozenset({"/demo/b"})),
        Lease(99, 60, 50, frozenset({"/demo/b"})),
        Lease(98, 3600, 3590, frozenset({"/demo/b"})),
    ],
)
def test_lease_fails(after: Lease) -> None:
    assert not proof.lease(_contents(), _contents(lease=after)).holds


def test_a_lease_without_keys_proves_nothing() -> None:
    bare = _contents(lease=Lease(99, 3600, 3590, frozenset()))
    assert not proof.lease(bare, bare).holds


def test_write() -> None:
    assert proof.write("new", "new", "m3").holds
    assert not proof.write("new", "old", "m3").holds
    assert not proof.write("new", None, "m3").holds
