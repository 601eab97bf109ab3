from __future__ import annotations

from itertools import permutations

from etcdguard.catalog import encode_manifest, manifest_digest
from etcdguard.catalog.chain import Link, Position, link_problem, next_position
from etcdguard.model import Manifest, Previous
from tests.support.restores import make_manifest


def link(sequence: int, *, epoch: int = 1, cluster_id: str = "cafe", previous: Link | None = None) -> Link:
    manifest = make_manifest(cluster_id=cluster_id, revision=100 + sequence).model_copy(
        update={
            "sequence": sequence,
            "epoch": epoch,
            "previous": None if previous is None else named(previous),
        }
    )
    return Link(manifest, encode_manifest(manifest))


def named(one: Link) -> Previous:
    return Previous(id=one.manifest.id, sha256=manifest_digest(one.raw))


def test_the_first_manifest() -> None:
    assert next_position([], "cafe") == Position(sequence=1, epoch=1, previous=None)


def test_the_next_follows_the_highest_sequence_in_whatever_order_they_come() -> None:
    links = [link(1), link(2), link(7)]
    for order in permutations(links):
        assert next_position(order, "cafe") == Position(sequence=8, epoch=1, previous=named(links[2]))


def test_a_new_cluster_id_opens_an_epoch_and_the_next_backup_stays_in_it() -> None:
    before = link(3)
    assert next_position([before], "beef") == Position(sequence=4, epoch=2, previous=named(before))
    after = link(4, epoch=2, cluster_id="beef")
    assert next_position([before, after], "beef") == Position(sequence=5, epoch=2, previous=named(after))


def test_links_that_are_sound() -> None:
    first = link(1)
    second = link(2, previous=first)
    raws = {one.manifest.id: one.raw for one in (first, second)}
    assert link_problem(first.manifest, raws) is None
    assert link_problem(second.manifest, raws) is None
    assert link_problem(second.manifest, {}) is None, "the previous one has been pruned"


def test_links_that_are_not() -> None:
    first = link(1)
    second = link(2, previous=first)
    problem = link_problem(second.manifest, {first.manifest.id: first.raw + b" "})
    assert problem == (
        f"the chain is broken: {first.manifest.id} is not the manifest this one was written after"
    )
    loose: Manifest = second.manifest.model_copy(update={"previous": None})
    assert link_problem(loose, {}) == "sequence 2 names no previous manifest"
