"""Prune over stores in memory: what goes, what must not, and crashes and faults anywhere in between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import SigningKey, TrustedSigners
from etcdguard.errors import AccessDenied, Refused, StoreUnavailable
from etcdguard.hold import Keeper
from etcdguard.prune import Limits, Pruner, PruneResult
from etcdguard.retention import Policy
from etcdguard.slots import slot_id
from etcdguard.storage.base import Lock, RepositoryStore
from etcdguard.storage.file import FileStore
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, SIGNER, START, ManualClock, Node, catalog_of, violations
from tests.support.faulty_store import Fault, FaultyStore, Rule, SimulatedCrash
from tests.unit.cli.running import run

LAST_TWO = Policy(keep_last=2)
DAY = timedelta(days=1)


class Scene:
    """A repository with one backup a day, the oldest first."""

    def __init__(self, tmp_path: Path, backups: int = 5) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore("one", now=self.clock.now)
        self.node = Node(tmp_path / "spool", clock=self.clock)
        self.ids = [self._backup(revision) for revision in range(20, 20 + backups)]

    def _backup(self, revision: int) -> str:
        made = self.node.backup(revision, self.store).backup.id
        self.clock.moment += DAY
        return made

    def pruner(
        self, store: RepositoryStore | None = None, policy: Policy = LAST_TWO, fraction: float = 1.0
    ) -> Pruner:
        used = store or self.store
        catalog = catalog_of(used)

        def record(facts: Any) -> None:
            catalog.trail.record("prune", facts, at=self.clock.now(), actor="cp1", signer=SIGNER)

        return Pruner(
            catalog, used, policy, must_be_signed=True, record=record, limits=Limits(max_fraction=fraction)
        )

    def prune(self, store: RepositoryStore | None = None, policy: Policy = LAST_TWO) -> PruneResult:
        pruner = self.pruner(store, policy)
        return pruner.execute(pruner.plan(self.clock.now()), self.clock.now())

    def listed(self) -> list[str]:
        return [backup.id for backup in catalog_of(self.store).list().backups]

    def stored(self) -> list[str]:
        return [info.key for info in self.store.list(f"{CLUSTER}/backups/")]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_plan_changes_nothing_and_gives_a_reason_for_each(scene: Scene) -> None:
    before = scene.stored()
    plan = scene.pruner().plan(scene.clock.now())
    assert [one.id for one in plan.remove] == scene.ids[2::-1]
    assert {one.id: one.reasons for one in plan.keep} == {
        scene.ids[4]: ("newest", "last 1 of 2"),
        scene.ids[3]: ("last 2 of 2",),
    }
    assert scene.stored() == before
    assert list(catalog_of(scene.store).trail.events("prune")) == []


def test_records_of_slots_go_after_ninety_days(scene: Scene) -> None:
    catalog = catalog_of(scene.store)
    now = scene.clock.now()
    for days, kind in ((89, "decided"), (91, "decided"), (92, "missed")):
        slot = slot_id(now - days * DAY)
        if kind == "missed":
            catalog.ledger.record_missed(slot, "nobody came", node="cp1", at=now)
        else:
            catalog.ledger.decide(slot, scene.ids[0], node="cp1", at=now)
    pruner = scene.pruner()
    plan = pruner.plan(scene.clock.now())
    assert len(plan.slots) == 2
    assert len(list(scene.store.list(catalog.layout.slots))) == 3
    pruner.execute(plan, scene.clock.now())
    (kept,) = scene.store.list(catalog.layout.slots)
    assert kept.key == catalog.layout.slot(slot_id(now - 89 * DAY))


def test_what_goes_goes_whole_and_is_on_record(scene: Scene) -> None:
    result = scene.prune()
    assert {one.id for one in result.removed} == set(scene.ids[:3])
    assert scene.listed() == scene.ids[3:]
    assert len(scene.stored()) == 2 * 3
    assert violations(scene.store) == []
    (event,) = catalog_of(scene.store).trail.events("prune")
    assert (event["phase"], event["actor"]) == ("begun", "cp1")
    assert {one["id"]: one["reason"] for one in event["remove"]} == dict.fromkeys(
        scene.ids[:3], "no retention rule keeps it"
    )


def test_the_next_prune_finds_nothing_to_do(scene: Scene) -> None:
    scene.prune()
    before = scene.stored()
    assert scene.prune() == PruneResult()
    assert scene.stored() == before


def test_the_chain_goes_on_over_what_was_pruned(scene: Scene) -> None:
    scene.prune()
    scene.node.backup(40, scene.store)
    newest = catalog_of(scene.store).list().backups[-1].manifest
    assert newest.sequence == 6
    assert newest.previous is not None
    assert newest.previous.id == scene.ids[4]


def test_the_newest_verified_one_stays(scene: Scene) -> None:
    results = [{"id": scene.ids[0], "level": "data", "outcome": "ok"}]
    catalog_of(scene.store).trail.record(
        "verify", {"results": results}, at=scene.clock.now(), actor="cp1", signer=SIGNER
    )
    scene.prune(policy=Policy(keep_last=1))
    assert scene.listed() == [scene.ids[0], scene.ids[4]]


def test_a_hold_keeps_also_when_it_comes_between_plan_and_deed(scene: Scene) -> None:
    keeper = Keeper(catalog_of(scene.store), SIGNER)
    keeper.add(scene.ids[0], "audit", at=START, actor="cp1")
    pruner = scene.pruner()
    plan = pruner.plan(scene.clock.now())
    assert (scene.ids[0], ("on hold",)) in [(one.id, one.reasons) for one in plan.keep]
    keeper.add(scene.ids[1], "audit", at=START, actor="cp1")
    result = pruner.execute(plan, scene.clock.now())
    assert [(one.id, one.reasons) for one in result.kept_after_all] == [(scene.ids[1], ("on hold",))]
    assert scene.listed() == [scene.ids[0], scene.ids[1], *scene.ids[3:]]
    told = [event for event in catalog_of(scene.store).trail.events("prune") if event["phase"] == "ended"]
    assert [event["stayed"] for event in told] == [[scene.ids[1]]]


def test_what_the_store_has_locked_stays_with_the_date(scene: Scene) -> None:
    catalog = catalog_of(scene.store)
    until = scene.clock.now() + DAY
    scene.store.locks[catalog.layout.signature(scene.ids[0])] = Lock(until, "GOVERNANCE")
    scene.store.locks[catalog.layout.manifest(scene.ids[1])] = Lock(scene.clock.now() - DAY, "COMPLIANCE")
    plan = scene.pruner().plan(scene.clock.now())
    reasons = {one.id: one.reasons for one in plan.keep}
    assert reasons[scene.ids[0]] == (f"locked by the store until {until.isoformat(timespec='seconds')}",)
    assert {one.id for one in plan.remove} == {scene.ids[1], scene.ids[2]}


def test_more_than_the_allowed_part_is_refused(scene: Scene) -> None:
    pruner = scene.pruner(fraction=0.5)
    plan = pruner.plan(scene.clock.now())
    assert plan.too_much == "3 of 5 backups would go, more than the 50% allowed"
    before = scene.stored()
    with pytest.raises(Refused, match="3 of 5"):
        pruner.execute(plan, scene.clock.now())
    assert scene.stored() == before
    assert scene.pruner(fraction=0.6).plan(scene.clock.now()).too_much is None


@pytest.mark.parametrize("seconds", [-400, 400])
def test_clocks_that_are_apart_end_it(scene: Scene, seconds: float) -> None:
    class Elsewhere(MemoryStore):
        def time(self) -> datetime | None:
            return scene.clock.now() + timedelta(seconds=seconds)

    with pytest.raises(Refused, match="s apart"):
        scene.pruner(Elsewhere("far")).plan(scene.clock.now())


@pytest.mark.parametrize("skip", range(10))
@pytest.mark.parametrize("fault", [Fault.CUT_SHORT, Fault.SERVER_ERROR])
def test_half_a_listing_is_no_listing(scene: Scene, fault: Fault, skip: int) -> None:
    faulty = FaultyStore(scene.store, [Rule(fault, "list", skip=skip)])
    before = scene.stored()
    if skip < 9:  # five of the plan, four of the trail before its event
        with pytest.raises(StoreUnavailable):
            scene.prune(faulty)
        assert scene.stored() == before
    else:  # there are no more listings than that
        scene.prune(faulty)


def test_a_manifest_that_cannot_be_read_keeps_its_backup(scene: Scene) -> None:
    catalog = catalog_of(scene.store)
    newer = json.loads(b"".join(scene.store.get(catalog.layout.manifest(scene.ids[0]))))
    newer["format"] = "etcdguard/2"
    scene.store.put(catalog.layout.manifest(scene.ids[0]), json.dumps(newer).encode())
    scene.store.put(catalog.layout.manifest(scene.ids[1]), b"damaged")
    before = [key for key in scene.stored() if scene.ids[0] in key or scene.ids[1] in key]
    scene.prune()
    assert [key for key in scene.stored() if scene.ids[0] in key or scene.ids[1] in key] == before


def test_what_strangers_sign_neither_goes_nor_pushes_others_out(scene: Scene, tmp_path: Path) -> None:
    stranger = Node(tmp_path / "other", clock=scene.clock, signer=SigningKey.generate())
    for revision in (100, 101):
        stranger.backup(revision, scene.store)
    plan = scene.pruner(policy=Policy(keep_last=2)).plan(scene.clock.now())
    reasons = [one.reasons for one in plan.keep]
    assert reasons.count(("nobody trusted here has signed it",)) == 2
    assert {one.id for one in plan.remove} == set(scene.ids[:3])


def test_leftovers_go_after_a_day_and_not_before(scene: Scene) -> None:
    catalog = catalog_of(scene.store)
    old, new = (
        f"{CLUSTER}/backups/20261101T0{n}0000Z-r00000000000000000001-0000000{n}/snapshot.db.zst.age"
        for n in (1, 2)
    )
    scene.store.put(old, b"x")
    scene.store.multipart(old.replace("00000001/", "0000000a/"))
    scene.clock.moment += DAY
    scene.store.put(new, b"x")
    scene.store.multipart(new)
    scene.store.put(f"{CLUSTER}/backups/README", b"not ours")
    assert scene.pruner(policy=Policy()).plan(scene.clock.now()).orphans == (old,)
    result = scene.prune(policy=Policy())
    assert (result.orphans, result.uploads) == ((old,), 1)
    assert new in scene.stored()
    assert f"{CLUSTER}/backups/README" in scene.stored()
    assert [upload.key for upload in scene.store.stale_uploads("")] == [new]
    assert catalog.list().problems == ()


def test_an_orphan_that_was_shipped_meanwhile_is_none(scene: Scene) -> None:
    """A spool that waited for days ships the very backup whose object was left behind."""
    catalog = catalog_of(scene.store)
    manifest = b"".join(scene.store.get(catalog.layout.manifest(scene.ids[0])))
    scene.store.delete(catalog.layout.manifest(scene.ids[0]))
    pruner = scene.pruner(policy=Policy())
    plan = pruner.plan(scene.clock.now())
    assert len(plan.orphans) == 2
    scene.store.put(catalog.layout.manifest(scene.ids[0]), manifest)
    assert pruner.execute(plan, scene.clock.now()) == PruneResult()
    assert scene.listed() == scene.ids


def test_a_crash_anywhere_leaves_whole_backups_and_the_next_prune_ends_it(tmp_path: Path) -> None:
    for after in range(200):
        scene = Scene(tmp_path / str(after))
        faulty = FaultyStore(scene.store, crash_after=after)
        try:
            scene.prune(faulty)
        except SimulatedCrash:
            assert violations(scene.store) == []
            assert set(scene.ids[3:]) <= set(scene.listed())
            told = {
                one["id"]
                for event in catalog_of(scene.store).trail.events("prune")
                for one in event.get("remove", ())
            }
            assert set(scene.ids) - set(scene.listed()) <= told
            scene.clock.moment += 2 * DAY
            scene.prune()
            assert scene.listed() == scene.ids[3:]
            assert len(scene.stored()) == 2 * 3
        else:
            assert after > 10
            return
    raise AssertionError("it never came to an end")


def test_what_fails_does_not_hold_up_the_rest(scene: Scene) -> None:
    faulty = FaultyStore(scene.store, [Rule(Fault.DENIED, "delete", scene.ids[1], times=None)])
    result = scene.prune(faulty)
    assert set(result.failed) == {scene.ids[1]}
    assert scene.listed() == [scene.ids[1], *scene.ids[3:]]
    assert violations(scene.store) == []


def test_what_lost_its_manifest_did_not_stay(scene: Scene) -> None:
    """The record of what stayed is believed: a backup that is half gone is none any more."""
    faulty = FaultyStore(scene.store, [Rule(Fault.DENIED, "delete", f"{scene.ids[1]}/snapshot", times=None)])
    assert set(scene.prune(faulty).failed) == {scene.ids[1]}
    assert scene.listed() == scene.ids[3:]
    assert [event["phase"] for event in catalog_of(scene.store).trail.events("prune")] == ["begun"]


def test_leftovers_that_cannot_go_are_told_one_by_one(scene: Scene) -> None:
    """An object nobody vouches for, a slot's record and an upload: each fails alone, the others go."""
    catalog, names = catalog_of(scene.store), (1, 2)
    orphans = [
        f"{CLUSTER}/backups/20261101T0{n}0000Z-r00000000000000000001-0000000{n}/snapshot.db.zst"
        for n in names
    ]
    uploads = [f"{key}.age" for key in orphans]
    slots = [slot_id(scene.clock.now() - (90 + n) * DAY) for n in names]
    for orphan, upload, slot in zip(orphans, uploads, slots, strict=True):
        scene.store.put(orphan, b"x")
        scene.store.multipart(upload)
        catalog.ledger.decide(slot, scene.ids[0], node="cp1", at=scene.clock.now())
    scene.clock.moment += 2 * DAY
    stuck = (orphans[0], catalog.layout.slot(slots[0]), uploads[0])
    rules = [
        Rule(Fault.DENIED, "delete", stuck[0]),
        Rule(Fault.TIMEOUT, "delete", stuck[1]),
        Rule(Fault.SERVER_ERROR, "abort_upload", stuck[2]),
    ]

    result = scene.prune(FaultyStore(scene.store, rules), policy=Policy())

    assert set(result.failed) == set(stuck)
    assert (result.orphans, result.uploads) == ((orphans[1],), 1)
    assert [key for key in scene.stored() if key in orphans] == [orphans[0]]
    assert [one.key for one in scene.store.stale_uploads("")] == [uploads[0]]
    assert [info.key for info in scene.store.list(catalog.layout.slots)] == [stuck[1]]
    assert scene.listed() == scene.ids
    assert scene.prune(policy=Policy()).failed == {}
    assert [key for key in scene.stored() if key in orphans] == []


def test_an_orphan_that_somebody_has_taken_away_or_written_anew_is_left_alone(scene: Scene) -> None:
    """Between the plan and the deed; what is written anew may be a backup in the making."""
    gone, anew = (
        f"{CLUSTER}/backups/20261101T0{n}0000Z-r00000000000000000001-0000000{n}/snapshot.db.zst"
        for n in (1, 2)
    )
    for key in (gone, anew):
        scene.store.put(key, b"x")
    scene.clock.moment += 2 * DAY
    pruner = scene.pruner(policy=Policy())
    plan = pruner.plan(scene.clock.now())
    assert plan.orphans == (gone, anew)
    scene.store.delete(gone)
    scene.store.put(anew, b"y")

    assert pruner.execute(plan, scene.clock.now()) == PruneResult()

    assert b"".join(scene.store.get(anew)) == b"y"


def test_a_backup_of_which_nobody_can_tell_whether_it_stands_counts_as_one_that_stayed(scene: Scene) -> None:
    """The store does not answer any more: to say it is gone could be a lie for ever."""
    rules = [
        Rule(Fault.TIMEOUT, "delete", scene.ids[1], times=None),
        Rule(Fault.TIMEOUT, "head", f"{scene.ids[1]}/manifest.json", times=None),
    ]

    result = scene.prune(FaultyStore(scene.store, rules))

    assert set(result.failed) == {scene.ids[1]}
    (ended,) = (one for one in catalog_of(scene.store).trail.events("prune") if one["phase"] == "ended")
    assert ended["stayed"] == [scene.ids[1]]


def test_who_may_not_delete_is_told_at_once(scene: Scene) -> None:
    before = scene.stored()
    faulty = FaultyStore(scene.store, [Rule(Fault.DENIED, "delete", times=None)])
    with pytest.raises(AccessDenied, match="nothing was deleted"):
        scene.prune(faulty)
    assert scene.stored() == before
    told = {event["phase"]: event for event in catalog_of(scene.store).trail.events("prune")}
    assert sorted(told["ended"]["stayed"]) == scene.ids[:3]


def test_another_prune_at_the_same_time_is_harmless(scene: Scene) -> None:
    first, second = scene.pruner(), scene.pruner()
    plans = [pruner.plan(scene.clock.now()) for pruner in (first, second)]
    first.execute(plans[0], scene.clock.now())
    assert second.execute(plans[1], scene.clock.now()).failed == {}
    assert scene.listed() == scene.ids[3:]


def test_without_signing_unsigned_backups_are_judged(tmp_path: Path) -> None:
    clock = ManualClock()
    store = MemoryStore("one", now=clock.now)
    node = Node(tmp_path / "spool", clock=clock, signer=None)
    for revision in (20, 21):
        node.backup(revision, store)
    catalog = Catalog(store, CLUSTER, TrustedSigners([]))
    pruner = Pruner(catalog, store, Policy(keep_last=1), must_be_signed=False, record=lambda facts: None)
    assert len(pruner.plan(clock.now()).remove) == 1
    strict = Pruner(catalog, store, Policy(keep_last=1), must_be_signed=True, record=lambda facts: None)
    assert strict.plan(clock.now()).remove == ()


def _configured(tmp_path: Path, names: Sequence[str], retention: dict[str, Any] | None) -> Path:
    (tmp_path / "signing.pem").write_bytes(SIGNER.private_pem())
    (tmp_path / "signing.pem").chmod(0o600)
    settings: dict[str, Any] = {
        "cluster": {"name": CLUSTER},
        "encryption": {"disabled": True},
        "signing": {"key_file": "signing.pem"},
        "repositories": [{"name": name, "file": {"path": name}} for name in names],
    }
    if retention is not None:
        settings["retention"] = retention
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(settings))
    return config


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock(datetime.now(timezone.utc) - 10 * DAY)
    stores = [FileStore.create(name, tmp_path / name) for name in ("first", "second")]
    node = Node(tmp_path / "spool", clock=clock)
    for revision in range(20, 24):
        node.backup(revision, *stores)
        clock.moment += DAY
    config = _configured(tmp_path, ["first", "second"], {"keep_last": 2})
    capsys.readouterr()

    def prune(*args: str, code: int = 0) -> Any:
        assert run("--config", config, "prune", *args, "-o", "json") == code
        return json.loads(capsys.readouterr().out)

    plan = prune()
    assert plan["dry_run"] is True
    assert len(plan["remove"]) == len(plan["keep"]) == 4
    assert [len(catalog_of(store).list().backups) for store in stores] == [4, 4]
    done = prune("--confirm", "--repository", "second")
    assert done["dry_run"] is False
    assert {one["repository"] for one in done["remove"]} == {"second"}
    assert [len(catalog_of(store).list().backups) for store in stores] == [4, 2]

    (tmp_path / "second").rename(tmp_path / "gone")
    assert len(prune("--confirm", code=3)["remove"]) == 2
    assert len(catalog_of(stores[0]).list().backups) == 2
    (tmp_path / "gone").rename(tmp_path / "second")
    assert prune("--confirm")["remove"] == []
    assert run("--config", config, "prune") == 0
    assert "stays" in capsys.readouterr().out


def test_the_command_refuses_to_delete_too_much(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FileStore.create("first", tmp_path / "first")
    node = Node(tmp_path / "spool", clock=ManualClock(datetime.now(timezone.utc) - DAY))
    for revision in range(20, 24):
        node.backup(revision, store)
    config = _configured(tmp_path, ["first"], {"keep_last": 1})
    assert run("--config", config, "prune") == 0
    assert "--confirm would be refused: 3 of 4 backups" in capsys.readouterr().out
    assert run("--config", config, "prune", "--confirm") == 15
    assert len(catalog_of(store).list().backups) == 4
    assert run("--config", config, "prune", "--confirm", "--max-fraction", "0.8") == 0
    assert len(catalog_of(store).list().backups) == 1


@pytest.mark.parametrize(
    "rules",
    [{"keep_last": 1}, {"keep_yearly": 1}, {"keep_within": "1h"}],
    ids=lambda rules: next(iter(rules)),
)
def test_the_command_never_deletes_everything(tmp_path: Path, rules: dict[str, Any]) -> None:
    """The strictest rules, long past, and every part allowed: the newest backup stays."""
    store = FileStore.create("first", tmp_path / "first")
    node = Node(tmp_path / "spool", clock=ManualClock(datetime.now(timezone.utc) - 5000 * DAY))
    ids = [node.backup(revision, store).backup.id for revision in range(20, 24)]
    ids = ids if "keep_within" in rules else ids[-1:]
    config = _configured(tmp_path, ["first"], {**rules, "max_fraction": 1.0})
    for _ in range(2):
        assert run("--config", config, "prune", "--confirm") == 0
        assert [backup.id for backup in catalog_of(store).list().backups] == ids


def test_the_command_without_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FileStore.create("first", tmp_path / "first")
    assert run("--config", _configured(tmp_path, ["first"], None), "prune", "--confirm") == 64
    assert "everything is kept" in capsys.readouterr().err
