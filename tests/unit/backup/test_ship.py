"""Delivery to several repositories, one of them down, in whatever order they come back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from etcdguard.backup.ship import Delivery
from etcdguard.backup.spool import SpoolEntry
from etcdguard.catalog import encode_manifest
from etcdguard.catalog.chain import Link
from etcdguard.errors import AccessDenied, Corruption, RepositoryError, SpoolFailed, StoreUnavailable
from etcdguard.model import Cluster, Compression, Manifest, ObjectEntry, SnapshotFacts, Tool
from etcdguard.progress import NoProgress
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import SIGNER, START, Node, catalog_of
from tests.support.faulty_store import Fault, FaultyStore, Rule
from tests.unit.backup.test_spool import facts

BODY = b"data"
DIGEST = "3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7"


class Scene:
    """A node, a spool and entries in it; ``ship`` is a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.node = Node(folder / "spool")
        with self.node.spool.locked():
            pass

    def entry(self, revision: int, *repositories: str, cluster_id: str = "cafe") -> SpoolEntry:
        entry = self.node.spool.new_entry()
        with entry.create() as out:
            out.write(BODY)
        whole = facts(revision)
        entry.complete(
            whole.model_copy(
                update={
                    "repositories": repositories,
                    "cluster": whole.cluster.model_copy(update={"cluster_id": cluster_id}),
                    "stored": whole.stored.model_copy(update={"sha256": DIGEST}),
                }
            )
        )
        return entry

    def ship(self, entry: SpoolEntry, *stores: RepositoryStore, known: tuple[Link, ...] = ()) -> Delivery:
        backup = entry.backup()
        assert backup is not None
        return self.node.shipper(stores).ship(entry, backup, NoProgress(), known=known)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def manifests(store: RepositoryStore) -> list[Manifest]:
    listing = catalog_of(store).list()
    assert listing.problems == ()
    assert {backup.signature for backup in listing.backups} <= {"valid"}
    return [backup.manifest for backup in listing.backups]


def everything(store: RepositoryStore) -> dict[str, bytes]:
    return {info.key: b"".join(store.get(info.key)) for info in store.list("")}


def backups(store: RepositoryStore) -> dict[str, bytes]:
    return {key: data for key, data in everything(store).items() if key.startswith("prod/backups/")}


def announced(store: RepositoryStore) -> list[dict[str, Any]]:
    return list(catalog_of(store).trail.events("backup"))


def test_the_manifest_says_what_the_spool_said_and_its_place(scene: Scene) -> None:
    store = MemoryStore("one")
    delivery = scene.ship(scene.entry(5, "one"), store)
    whole = facts(5)
    (manifest,) = manifests(store)
    assert manifest == delivery.manifest
    assert manifest == Manifest(
        format="etcdguard/1",
        id=whole.id,
        sequence=1,
        epoch=1,
        previous=None,
        created_at=whole.created_at,
        finished_at=manifest.finished_at,
        tool=Tool(name="etcdguard", version="1.0"),
        node="node-1",
        cluster=Cluster(
            name="prod", cluster_id="cafe", member_id="a1", member_name="etcd-1", etcd_version="3.6.0"
        ),
        members=(),
        snapshot=SnapshotFacts(**whole.snapshot.model_dump()),
        hash_kv=None,
        objects=(ObjectEntry(key=whole.stored.key, bytes=4, sha256=DIGEST),),
        compression=Compression(algorithm="zstd", level=1),
        encryption=None,
    )
    assert START < manifest.finished_at <= scene.node.clock.moment
    assert (delivery.committed, delivery.failed) == (True, {})


def test_every_byte_is_there_before_the_manifest(scene: Scene) -> None:
    watched = FaultyStore(MemoryStore("one"))
    scene.ship(scene.entry(5, "one"), watched)
    folder = f"prod/backups/{facts(5).id}/"
    puts = [key.removeprefix(folder) for operation, key in watched.operations if operation == "put"]
    assert puts[:3] == ["snapshot.db.zst.age", "manifest.json.sig", "manifest.json"]
    assert all(key.startswith("prod/events/") for key in puts[3:])
    assert watched.operations.index(("head", folder + "snapshot.db.zst.age")) < watched.operations.index(
        ("put", folder + "manifest.json.sig")
    )


def test_all_repositories_get_the_same_bytes_and_the_spool_is_empty(scene: Scene) -> None:
    one, two = MemoryStore("one"), MemoryStore("two")
    delivery = scene.ship(scene.entry(5, "one", "two"), one, two)
    assert delivery.outcomes == {"one": None, "two": None}
    assert backups(one) == backups(two)
    assert [event["id"] for event in (*announced(one), *announced(two))] == [delivery.backup_id] * 2
    assert scene.node.spool.entries() == []


@pytest.mark.parametrize(
    "rule",
    [
        Rule(Fault.TIMEOUT, "stale_uploads"),
        Rule(Fault.SLOW_DOWN, "put", key="snapshot"),
        Rule(Fault.DENIED, "list"),
        Rule(Fault.RESET, "put", key="manifest.json.sig"),
        Rule(Fault.LOST_ACK, "put", key="manifest.json", skip=1),
    ],
    ids=lambda rule: f"{rule.operation}-{rule.key}",
)
def test_one_repository_down_does_not_hold_up_the_other(scene: Scene, rule: Rule) -> None:
    one, two = MemoryStore("one"), MemoryStore("two")
    entry = scene.entry(5, "one", "two")
    delivery = scene.ship(entry, FaultyStore(one, [rule]), two)
    assert set(delivery.failed) == {"one"}
    assert isinstance(delivery.failed["one"], AccessDenied | StoreUnavailable)
    assert delivery.committed
    assert manifests(two) == [delivery.manifest]
    assert entry.delivered() == {"two"}

    later = scene.node.clock.moment + timedelta(days=3)
    scene.node.clock.moment = later
    watched = FaultyStore(two)
    again = scene.ship(entry, one, watched)
    assert again.outcomes == {"one": None, "two": None}
    assert backups(one) == backups(two), "the manifest was frozen, date and all"
    assert watched.operations == [], "what is delivered is not touched again"
    assert scene.node.spool.entries() == []


def test_what_was_committed_is_not_written_again(scene: Scene) -> None:
    """The run died when the manifest was there, and before it noted so."""
    one = MemoryStore("one")
    entry = scene.entry(5, "one")
    announcing = Rule(Fault.TIMEOUT, "put", key="/events/")
    assert set(scene.ship(entry, FaultyStore(one, [announcing])).failed) == {"one"}
    watched = FaultyStore(one)
    assert scene.ship(entry, watched).failed == {}
    written = [key for operation, key in watched.operations if operation == "put" and "/events/" not in key]
    assert [key.rpartition("/")[2] for key in written] == ["manifest.json.sig", "manifest.json"], (
        "create-only"
    )
    assert len(announced(one)) == 1


def test_nothing_reachable_gives_no_place_in_the_chain(scene: Scene) -> None:
    entry = scene.entry(5, "one", "two")
    down = Rule(Fault.TIMEOUT, "stale_uploads")
    unlistable = Rule(Fault.CUT_SHORT, "list")
    one, two = MemoryStore("one"), MemoryStore("two")
    delivery = scene.ship(entry, FaultyStore(one, [down]), FaultyStore(two, [unlistable]))
    assert (delivery.manifest, delivery.committed, set(delivery.failed)) == (None, False, {"one", "two"})
    assert entry.frozen() is None
    assert scene.node.spool.entries() == [entry]
    assert scene.ship(entry, one, two).failed == {}


def test_the_chain_goes_on_after_the_highest_sequence_of_all_repositories(scene: Scene) -> None:
    """One was down for a while, and its entries were taken away by hand."""
    one, two = MemoryStore("one"), MemoryStore("two")
    scene.ship(scene.entry(1, "one", "two"), one, two)
    for revision in (2, 3):
        scene.ship(scene.entry(revision, "two"), two)
    for order in ((one, two), (two, one)):
        scene.ship(scene.entry(len(manifests(two)) + 1, "one", "two"), *order)
    assert [manifest.sequence for manifest in manifests(two)] == [1, 2, 3, 4, 5]
    assert [manifest.sequence for manifest in manifests(one)] == [1, 4, 5]
    for before, after in zip(manifests(two), manifests(two)[1:], strict=False):
        assert after.previous is not None
        assert after.previous.id == before.id


def test_a_new_cluster_id_opens_a_new_epoch(scene: Scene) -> None:
    store = MemoryStore("one")
    for revision, cluster_id in ((900, "cafe"), (901, "cafe"), (3, "beef"), (4, "beef")):
        scene.ship(scene.entry(revision, "one", cluster_id=cluster_id), store)
    listed = manifests(store)
    assert [(manifest.epoch, manifest.snapshot.revision) for manifest in listed] == [
        (1, 900), (1, 901), (2, 3), (2, 4)
    ]  # fmt: skip
    assert [manifest.sequence for manifest in listed] == [1, 2, 3, 4]


def test_a_manifest_that_waits_elsewhere_in_the_spool_keeps_its_place(scene: Scene) -> None:
    store = MemoryStore("one")
    first, second = scene.entry(5, "one"), scene.entry(6, "one")
    scene.ship(first, FaultyStore(store, [Rule(Fault.DENIED, "put", key="manifest", times=None)]))
    frozen, backup = first.frozen(), first.backup()
    assert frozen is not None
    assert backup is not None
    from etcdguard.catalog import decode_manifest

    waiting = Link(decode_manifest(frozen[0], backup.id), frozen[0])
    delivery = scene.ship(second, store, known=(waiting,))
    assert delivery.manifest is not None
    assert (delivery.manifest.sequence, delivery.manifest.previous is not None) == (2, True)
    scene.ship(first, store)
    assert [manifest.sequence for manifest in manifests(store)] == [1, 2]


def test_a_repository_that_left_the_configuration_is_not_waited_for(scene: Scene) -> None:
    one, two = MemoryStore("one"), MemoryStore("two")
    entry = scene.entry(5, "one", "two")
    down = FaultyStore(two, [Rule(Fault.DENIED, "put", times=None)])
    assert set(scene.ship(entry, one, down).failed) == {"two"}
    assert scene.ship(entry, one).outcomes == {"one": None}
    assert scene.node.spool.entries() == []


def test_a_backup_for_repositories_that_all_left_is_kept(scene: Scene) -> None:
    """It may be the only copy: a person must decide."""
    entry = scene.entry(5, "gone")
    delivery = scene.ship(entry, MemoryStore("one"))
    assert (delivery.committed, dict(delivery.outcomes)) == (False, {})
    assert scene.node.spool.entries() == [entry]


def test_without_a_signing_key_there_is_no_signature(scene: Scene) -> None:
    scene.node.signer = None
    store = MemoryStore("one")
    scene.ship(scene.entry(5, "one"), store)
    (backup,) = catalog_of(store).list().backups
    assert backup.signature == "missing"


def test_the_signature_is_over_the_manifests_bytes(scene: Scene) -> None:
    store = MemoryStore("one")
    manifest = scene.ship(scene.entry(5, "one"), store).manifest
    assert manifest is not None
    signature = everything(store)[f"prod/backups/{manifest.id}/manifest.json.sig"]
    assert SIGNER.public.verify(encode_manifest(manifest), signature)


def test_a_repository_out_of_reach_is_asked_once_a_run(scene: Scene) -> None:
    down = FaultyStore(MemoryStore("one"), [Rule(Fault.TIMEOUT, "stale_uploads", times=1)])
    shipper = scene.node.shipper([down])
    for revision in (5, 6):
        entry = scene.entry(revision, "one")
        backup = entry.backup()
        assert backup is not None
        delivery = shipper.ship(entry, backup, NoProgress())
        assert isinstance(delivery.failed["one"], StoreUnavailable)
    assert down.operations == [], "it would have answered the second time"
    assert len(scene.node.spool.entries()) == 2


def test_a_damaged_spool_is_reported_for_every_repository_and_kept(scene: Scene) -> None:
    one, two = MemoryStore("one"), MemoryStore("two")
    entry = scene.entry(5, "one", "two")
    entry.object_path.write_bytes(b"dat\0")
    delivery = scene.ship(entry, one, two)
    assert {name: type(error) for name, error in delivery.failed.items()} == {
        "one": Corruption,
        "two": Corruption,
    }
    assert (everything(one), everything(two)) == ({}, {})
    assert scene.node.spool.entries() == [entry]


def test_a_spool_that_cannot_be_read_is_raised(scene: Scene) -> None:
    entry = scene.entry(5, "one")
    entry.object_path.unlink()
    with pytest.raises(SpoolFailed):
        scene.ship(entry, MemoryStore("one"))


def test_a_repository_with_another_manifest_of_that_id_keeps_it(scene: Scene) -> None:
    one = MemoryStore("one")
    entry = scene.entry(5, "one")
    key = f"prod/backups/{facts(5).id}/manifest.json"
    one.put(key, b"somebody else's")
    delivery = scene.ship(entry, one)
    assert isinstance(delivery.failed["one"], Corruption)
    assert everything(one)[key] == b"somebody else's"


def test_unreadable_manifests_do_not_stop_new_backups(scene: Scene) -> None:
    store = MemoryStore("one")
    scene.ship(scene.entry(5, "one"), store)
    scene.ship(scene.entry(6, "one"), store)
    store.put(f"prod/backups/{facts(6).id}/manifest.json", b"rotten")
    delivery = scene.ship(scene.entry(7, "one"), store)
    assert delivery.failed == {}
    assert isinstance(catalog_of(store).list().problems[0].error, Corruption | RepositoryError)
