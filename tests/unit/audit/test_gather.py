"""Reading a repository that others write and delete in at the same time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etcdguard.errors import ObjectNotFound, StoreUnavailable
from etcdguard.storage.base import Lock, LockRule, ObjectInfo
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER
from tests.unit.audit.scenes import DAY, HOUR, Scene


class Busy(MemoryStore):
    """Somebody does something after each listing of the whole cluster."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        found = super().list(prefix)
        if prefix == f"{CLUSTER}/":
            self.meanwhile()
        return found


@pytest.fixture
def store() -> Busy:
    return Busy("one")


@pytest.fixture
def scene(tmp_path: Path, store: Busy) -> Scene:
    scene = Scene(tmp_path, stores=[store])
    store._now = scene.clock.now
    return scene


def present(scene: Scene) -> list[str]:
    (history,) = scene.case().histories
    return [one.id for one in history.present]


def test_a_backup_that_goes_while_it_is_read_makes_the_audit_look_anew(scene: Scene, store: Busy) -> None:
    first, second, third = scene.hours(3)
    looks: list[int] = []

    def delete_one() -> None:
        looks.append(1)
        if len(looks) < 3:
            store.delete(scene.manifest_key((first, second)[len(looks) - 1]))

    store.meanwhile = delete_one
    assert present(scene) == [third]
    assert len(looks) == 3


def test_backups_that_keep_going_are_told_after_three_looks(scene: Scene, store: Busy) -> None:
    ids = scene.hours(4)
    store.meanwhile = lambda: store.delete(scene.manifest_key(ids.pop(0)))
    with pytest.raises(StoreUnavailable) as caught:
        scene.case()
    assert caught.value.message == "repository one: backups are being deleted faster than they can be read"
    assert "no prune is under way" in caught.value.hint
    assert len(ids) == 1


def test_an_event_that_came_after_the_listing_is_read_if_another_names_it(scene: Scene, store: Busy) -> None:
    """The listing is no picture of one moment: it has the later event and not the earlier one."""
    scene.hours(1)
    earlier = scene.record("verify", {"results": []})
    scene.to(scene.clock.moment + HOUR)
    scene.hours(1)
    raw = scene.read(earlier)
    signature = scene.read(earlier + ".sig")
    store.delete(earlier)
    store.delete(earlier + ".sig")
    (missing,) = scene.controls()["trail.complete"]["findings"]
    assert (missing["code"], missing["evidence"]) == ("event-missing", f"one:{earlier}")

    def write() -> None:
        store.put(earlier + ".sig", signature)
        store.put(earlier, raw)

    store.meanwhile = write
    controls = scene.controls()
    assert controls["trail.complete"]["findings"] == []
    assert f"one:{earlier}" in controls["trail.complete"]["evidence"]


def test_an_object_that_goes_before_its_lock_is_asked_for_has_none(scene: Scene, store: Busy) -> None:
    (only,) = scene.hours(1)
    for key in scene.folder(only):
        store.locks[key] = Lock(scene.clock.moment + 7 * DAY, "COMPLIANCE")
    rule = LockRule("COMPLIANCE", 7)
    assert scene.findings(lock=rule) == []
    (before,) = scene.case(lock=rule).histories
    gone = scene.object_key(only)
    store.meanwhile = lambda: store.delete(gone)
    (history,) = scene.case(lock=rule).histories
    (known,) = history.present
    assert known.stored is not None
    assert gone in before.known[only].stored.locks  # type: ignore[union-attr]
    assert sorted(known.stored.locks) == sorted(set(scene.folder(only)) - {gone})
    with pytest.raises(ObjectNotFound, match=re.escape(gone)):
        store.lock(gone)
