"""The tampering campaign: whatever is done to a repository on a real S3 server, verify or audit names it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from etcdguard.audit.case import Case, Expectation
from etcdguard.audit.document import audited
from etcdguard.audit.gather import gather
from etcdguard.audit.history import tell
from etcdguard.audit.period import Span
from etcdguard.catalog import Catalog, encode_manifest
from etcdguard.catalog.codec import decode_manifest
from etcdguard.crypto.signing import SigningKey, TrustedSigners
from etcdguard.progress import NoProgress
from etcdguard.retention import Policy
from etcdguard.storage.s3 import S3Store
from etcdguard.verify import Verifier
from tests.support.backups import CLUSTER, IDENTITY, SIGNER, START, TRUSTED
from tests.support.s3_servers import S3Server, make_bucket
from tests.unit.audit.scenes import HOUR, Scene

pytestmark = pytest.mark.xdist_group("tampering")  # one life is lived for all

STRANGER = SigningKey.generate()


@dataclass(frozen=True)
class Life:
    """A cluster's repository as it was left: everything in it, and what happened."""

    objects: Mapping[str, bytes]
    pruned: Mapping[str, bytes]
    """All of a backup that was pruned later."""
    ids: tuple[str, ...]
    """Of the backups that are there."""
    pruned_id: str
    end: Any


class Victim:
    """A copy of that life, to be tampered with."""

    def __init__(self, store: S3Store, life: Life) -> None:
        self.store = store
        self.life = life
        self.ids = life.ids

    def read(self, key: str) -> bytes:
        return b"".join(self.store.get(key))

    def key(self, backup_id: str, name: str = "manifest.json") -> str:
        return f"{CLUSTER}/backups/{backup_id}/{name}"

    def snapshot(self, backup_id: str) -> str:
        return self.key(backup_id, "snapshot.db.zst.age")

    def event(self, kind: str) -> str:
        """The newest event of a kind but the very last one, which nothing comes after."""
        keys = [key for key in self.life.objects if "/events/" in key and key.endswith(".json")]
        return [key for key in sorted(keys)[:-1] if f"Z-{kind}-" in key][-1]

    def swap(self, one: str, other: str) -> None:
        first, second = self.read(one), self.read(other)
        self.store.put(one, second)
        self.store.put(other, first)

    def edit(self, backup_id: str, signer: SigningKey | None) -> None:
        """A manifest with another node in it, signed anew by whoever."""
        raw = self.read(self.key(backup_id))
        changed = encode_manifest(decode_manifest(raw, backup_id).model_copy(update={"node": "elsewhere"}))
        if signer is not None:
            self.store.put(self.key(backup_id, "manifest.json.sig"), signer.sign(changed))
        self.store.put(self.key(backup_id), changed)

    def after_all(self) -> None:
        """Wait until the store's clock shows a later second than anything in the repository."""
        newest = max(info.modified for info in self.store.list(CLUSTER) if info.modified is not None)
        number = 0
        while True:
            number += 1
            self.store.put(f"clock/{number}", b"")
            written = self.store.head(f"clock/{number}").modified
            if written is not None and (written - newest).total_seconds() >= 1:
                return

    # -- what the tools say --------------------------------------------------------------------------------

    def verified(self, level: Any) -> dict[str, tuple[str, ...]]:
        """Problems by backup."""
        verifier = Verifier(Catalog(self.store, CLUSTER, TRUSTED), lambda: [IDENTITY], NoProgress())
        return {one.id: one.problems for one in verifier.every(level) if one.problems}

    def audited(
        self, trusted: TrustedSigners = TRUSTED, *, notices: bool = False
    ) -> set[tuple[str, str | None]]:
        """Code and backup of every finding."""
        period = Span(START - HOUR, self.life.end)
        facts = gather(Catalog(self.store, CLUSTER, trusted), self.store, period, self.life.end, None)
        case = Case(CLUSTER, period, self.life.end, Expectation(must_be_signed=True), (tell(facts),))
        return {
            (one["code"], one["backup"])
            for control in audited(case)["controls"]
            for one in control["findings"]
            if notices or one["severity"] == "failure"
        }


@pytest.fixture(scope="module")
def server(seaweedfs_server: S3Server) -> tuple[S3Server, str]:
    return seaweedfs_server, make_bucket(seaweedfs_server)


@pytest.fixture(scope="module")
def life(server: tuple[S3Server, str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Eight backups, of which two were pruned; verified, drilled, held, let go."""
    where, bucket = server
    store = S3Store(where.options(bucket, "life"), session=where.session())
    scene = Scene(tmp_path_factory.mktemp("life"), stores=[store])
    first = scene.hours(6)
    scene.verify(first[3])
    scene.drill(first[3])
    scene.hold(first[2])
    scene.hold(first[4])
    scene.release(first[4])
    before = scene.folder(first[0])
    gone = scene.prune(Policy(keep_last=3))
    scene.hours(2)
    assert scene.findings(notices=True) == []
    objects = {info.key: scene.read(info.key) for info in store.list("")}
    left = tuple(one for one in scene.ids if one not in gone)
    assert first[0] in gone
    return Life(objects, before, left, first[0], scene.clock.moment)


@pytest.fixture
def victim(server: tuple[S3Server, str], life: Life) -> Iterator[Victim]:
    where, bucket = server
    store = S3Store(where.options(bucket, f"victim-{secrets.token_hex(4)}"), session=where.session())
    order = ("snapshot", ".sig", "manifest.json", "")  # as they were written, for the store's dates
    for key in sorted(life.objects, key=lambda one: [mark in one for mark in order].index(True)):
        store.put(key, life.objects[key])
    yield Victim(store, life)
    for info in store.list(""):
        store.delete(info.key)


def test_the_untouched_copy_is_clean(victim: Victim) -> None:
    assert victim.verified("data") == {}
    assert victim.audited() == set()


# -- objects -------------------------------------------------------------------------------------------------


def test_an_object_replaced(victim: Victim) -> None:
    target = victim.ids[2]
    size = len(victim.read(victim.snapshot(target)))
    victim.after_all()
    victim.store.put(victim.snapshot(target), secrets.token_bytes(size))
    (problem,) = victim.verified("data")[target]
    assert "sha256" in problem or "age" in problem
    assert set(victim.verified("data")) == {target}
    assert ("object-newer", target) in victim.audited(notices=True)


def test_an_object_truncated(victim: Victim) -> None:
    target = victim.ids[2]
    victim.store.put(victim.snapshot(target), victim.read(victim.snapshot(target))[:-1])
    assert set(victim.verified("manifest")) == {target}
    assert victim.audited() == {("backup-damaged", target)}


def test_an_object_removed(victim: Victim) -> None:
    target = victim.ids[2]
    victim.store.delete(victim.snapshot(target))
    assert set(victim.verified("manifest")) == {target}
    assert victim.audited() == {("backup-damaged", target)}


def test_two_objects_swapped(victim: Victim) -> None:
    one, other = victim.ids[1], victim.ids[3]
    victim.swap(victim.snapshot(one), victim.snapshot(other))
    assert set(victim.verified("data")) == {one, other}


def test_two_backups_swapped_whole(victim: Victim) -> None:
    one, other = victim.ids[1], victim.ids[3]
    for name in ("snapshot.db.zst.age", "manifest.json", "manifest.json.sig"):
        victim.swap(victim.key(one, name), victim.key(other, name))
    assert set(victim.verified("manifest")) == {one, other}
    assert {("backup-damaged", one), ("backup-damaged", other)} <= victim.audited()


# -- manifests -----------------------------------------------------------------------------------------------


def test_a_manifest_edited(victim: Victim) -> None:
    target = victim.ids[2]
    victim.edit(target, None)
    assert target in victim.verified("manifest")
    assert {("signature-invalid", target), ("manifest-changed", target)} <= victim.audited()


def test_a_manifest_edited_by_somebody_with_the_key(victim: Victim) -> None:
    """Signed again, and still not what was announced, nor what the next one was written after."""
    target, following = victim.ids[2], victim.ids[3]
    victim.edit(target, SIGNER)
    assert following in victim.verified("manifest")
    assert victim.audited() == {("manifest-changed", target), ("chain-broken", following)}


def test_a_manifest_deleted(victim: Victim) -> None:
    victim.store.delete(victim.key(victim.ids[2]))
    assert victim.audited() == {("manifest-missing", victim.ids[2])}


def test_the_newest_backup_deleted_whole(victim: Victim) -> None:
    target = victim.ids[-1]
    for name in ("snapshot.db.zst.age", "manifest.json", "manifest.json.sig"):
        victim.store.delete(victim.key(target, name))
    assert victim.audited() == {("manifest-missing", target)}


def test_a_backup_deleted_with_its_announcement(victim: Victim) -> None:
    """Its number in the chain and the names of events tell."""
    target = victim.ids[2]
    for info in victim.store.list(f"{CLUSTER}/backups/{target}/"):
        victim.store.delete(info.key)
    keys = [key for key, raw in victim.life.objects.items() if "-backup-" in key and target.encode() in raw]
    for key in keys:
        victim.store.delete(key)
        victim.store.delete(key + ".sig")
    assert {("sequence-missing", None), ("event-missing", None)} <= victim.audited()


def test_an_old_manifest_replayed_in_anothers_place(victim: Victim) -> None:
    target = victim.ids[-1]
    for name in ("manifest.json", "manifest.json.sig"):
        victim.store.put(victim.key(target, name), victim.read(victim.key(victim.ids[0], name)))
    assert target in victim.verified("manifest")
    assert ("backup-damaged", target) in victim.audited()


def test_a_pruned_backup_put_back(victim: Victim) -> None:
    victim.after_all()
    for key, data in victim.life.pruned.items():
        victim.store.put(key, data)
    assert victim.verified("data") == {}, "it is as sound as it was"
    assert victim.audited() == {("backup-returned", victim.life.pruned_id)}


# -- signatures ----------------------------------------------------------------------------------------------


def test_a_signature_stripped(victim: Victim) -> None:
    target = victim.ids[2]
    victim.store.delete(victim.key(target, "manifest.json.sig"))
    assert set(victim.verified("manifest")) == {target}
    assert victim.audited() == {("signature-missing", target)}


def test_the_key_rotated_by_a_stranger(victim: Victim) -> None:
    """Everything signed anew with a key that nobody here trusts."""
    for key, raw in victim.life.objects.items():
        if key + ".sig" in victim.life.objects:
            victim.store.put(key + ".sig", STRANGER.sign(raw))
    assert set(victim.verified("manifest")) == set(victim.ids)
    found = victim.audited()
    assert {("signature-invalid", one) for one in victim.ids} <= found
    assert ("event-untrusted", None) in found


def test_the_key_rotated_properly_is_no_finding(victim: Victim) -> None:
    """Both keys are trusted, and the newest backups are signed with the new one."""
    for target in victim.ids[-2:]:
        raw = victim.read(victim.key(target))
        victim.store.put(victim.key(target, "manifest.json.sig"), STRANGER.sign(raw))
    both = TrustedSigners([SIGNER.public, STRANGER.public])
    assert victim.audited(both) == set()
    assert victim.audited() == {("signature-invalid", one) for one in victim.ids[-2:]}


# -- events --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["backup", "prune", "verify", "hold"])
def test_an_event_removed(victim: Victim, kind: str) -> None:
    key = victim.event(kind)
    victim.store.delete(key)
    victim.store.delete(key + ".sig")
    assert ("event-missing", None) in victim.audited()


def test_without_the_record_of_a_prune_its_deletions_are_unexplained(victim: Victim) -> None:
    key = victim.event("prune")
    victim.store.delete(key)
    assert ("manifest-missing", victim.life.pruned_id) in victim.audited()


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("event-unsigned", lambda store, key, raw: store.delete(key + ".sig")),
        ("event-untrusted", lambda store, key, raw: store.put(key, raw.replace(b"node-1", b"node-2"))),
        ("event-displaced", lambda store, key, raw: _copied_later(store, key, raw)),
    ],
    ids=["unsigned", "edited", "copied"],
)
def test_an_event_changed(victim: Victim, code: str, change: Callable[[S3Store, str, bytes], object]) -> None:
    key = victim.event("verify")
    change(victim.store, key, victim.read(key))
    assert victim.audited() == {(code, None)}


def _copied_later(store: S3Store, key: str, raw: bytes) -> None:
    later = f"{CLUSTER}/events/20261121T120000Z-verify-0badcafe.json"
    store.put(later, raw)
    store.put(later + ".sig", SIGNER.sign(raw))


def test_a_hold_removed(victim: Victim) -> None:
    (hold,) = victim.store.list(f"{CLUSTER}/holds/")
    victim.store.delete(hold.key)
    assert {code for code, _ in victim.audited()} == {"hold-missing"}


def test_a_backup_on_hold_removed(victim: Victim) -> None:
    (hold,) = victim.store.list(f"{CLUSTER}/holds/")
    target = Path(hold.key).stem
    for info in victim.store.list(f"{CLUSTER}/backups/{target}/"):
        victim.store.delete(info.key)
    assert victim.audited() == {("held-backup-missing", target), ("manifest-missing", target)}
