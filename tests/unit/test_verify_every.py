"""All backups of a repository: several at once, at a pace, taken up again, some of them for other keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from etcdguard.crypto.recipients import Identity, generate_identity
from etcdguard.errors import StoreUnavailable, WrongKey
from etcdguard.model import Manifest
from etcdguard.pace import Pace, Stopped
from etcdguard.progress import NoProgress
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.memory import MemoryStore
from etcdguard.verify import Notes, Verifier, VerifyResult
from tests.support.backups import IDENTITY, SIGNER, ManualClock, Node, catalog_of
from tests.support.faulty_store import Fault, FaultyStore, Rule

DAY = timedelta(days=1)
OTHER = generate_identity()


class Scene:
    """Six backups; the third and the fourth are for another identity."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore("m")
        clock = ManualClock()
        self.manifests: list[Manifest] = []
        for number in range(6):
            whose = OTHER if number in (2, 3) else IDENTITY
            node = Node(folder / "spool", clock=clock, options={"recipients": [whose.recipient]})
            made = node.backup(20 + number, self.store).delivery.manifest
            assert made is not None
            self.manifests.append(made)
        self.ids = [manifest.id for manifest in self.manifests]
        self.now = clock.now()

    def verifier(
        self,
        store: RepositoryStore | None = None,
        identities: Sequence[Identity] = (IDENTITY, OTHER),
        pace: Pace | None = None,
    ) -> Verifier:
        return Verifier(catalog_of(store or self.store), lambda: identities, NoProgress(), pace)

    def key(self, number: int) -> str:
        return f"prod/{self.manifests[number].objects[0].key}"

    def change(self, number: int, at: int) -> None:
        """One bit of its object."""
        data = bytearray(b"".join(self.store.get(self.key(number))))
        data[at] ^= 1
        self.store.put(self.key(number), bytes(data))

    def record(self, number: int, level: str, at: datetime, outcome: str = "ok") -> None:
        results = [{"id": self.ids[number], "level": level, "outcome": outcome}]
        catalog_of(self.store).trail.record("verify", {"results": results}, at=at, actor="n", signer=SIGNER)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def outcomes(results: Sequence[VerifyResult]) -> list[str]:
    return [result.outcome for result in results]


# -- keys --------------------------------------------------------------------------------------------------


def test_a_backup_for_other_keys_does_not_hold_up_the_rest(scene: Scene) -> None:
    results = scene.verifier(identities=[IDENTITY]).every("data")
    assert outcomes(results) == ["ok", "ok", "unverifiable", "unverifiable", "ok", "ok"]
    assert results[2].problems[0].startswith("none of the 1 identities")
    assert outcomes(scene.verifier().every("data")) == ["ok"] * 6
    assert outcomes(scene.verifier(identities=[generate_identity()]).every("data")) == ["unverifiable"] * 6


@pytest.mark.parametrize("at", [60, 300, -1])
def test_damage_to_what_cannot_be_opened_is_found_all_the_same(scene: Scene, at: int) -> None:
    """Also in the header of the file, which makes a file of ours look like one of others."""
    scene.change(2, at)
    scene.change(4, at)
    results = scene.verifier(identities=[IDENTITY]).every("data")
    assert outcomes(results) == ["ok", "ok", "failed", "unverifiable", "failed", "ok"]


def test_no_key_at_all_is_said_at_once(scene: Scene) -> None:
    watched = FaultyStore(scene.store)

    def nobody() -> Sequence[Identity]:
        raise WrongKey("no identity", hint="give one")

    with pytest.raises(WrongKey):
        Verifier(catalog_of(watched), nobody, NoProgress()).every("data")
    assert not any(operation == "get" and key.endswith(".age") for operation, key in watched.operations)


# -- taken up again ----------------------------------------------------------------------------------------


def test_what_was_found_sound_lately_is_not_read_again(scene: Scene) -> None:
    scene.record(0, "data", scene.now - DAY)
    scene.record(1, "drill", scene.now - DAY)
    scene.record(2, "manifest", scene.now - DAY)
    scene.record(3, "data", scene.now - 3 * DAY)
    scene.record(4, "data", scene.now - DAY)
    scene.record(4, "data", scene.now - DAY / 2, "failed")
    scene.record(5, "data", scene.now + DAY)  # by a clock that is ahead
    watched = FaultyStore(scene.store)
    between = (scene.now - 2 * DAY, scene.now)
    results = scene.verifier(watched).every("data", sound_between=between)
    assert outcomes(results) == ["skipped", "skipped", "ok", "ok", "ok", "ok"]
    read = {key for operation, key in watched.operations if operation == "get" and key.endswith(".age")}
    assert read == {scene.key(number) for number in (2, 3, 4, 5)}
    assert outcomes(scene.verifier().every("data")) == ["ok"] * 6


def test_what_is_passed_over_must_still_be_there_and_signed(scene: Scene) -> None:
    for number in range(3):
        scene.record(number, "data", scene.now - DAY)
    layout = catalog_of(scene.store).layout
    scene.store.delete(layout.signature(scene.ids[0]))
    scene.store.delete(scene.key(1))
    results = scene.verifier().every("data", sound_between=(scene.now - 2 * DAY, scene.now))
    assert outcomes(results)[:3] == ["failed", "failed", "skipped"]


def test_the_newest_come_first_and_each_is_told(scene: Scene) -> None:
    watched = FaultyStore(scene.store)
    told: list[VerifyResult] = []
    results = scene.verifier(watched).every("data", found=told.append)
    read = [key for operation, key in watched.operations if operation == "get" and key.endswith(".age")]
    assert read == [scene.key(number) for number in range(5, -1, -1)]
    assert [result.id for result in results] == scene.ids
    assert sorted(result.id for result in told) == scene.ids


def test_what_was_found_before_a_failure_has_been_told(scene: Scene) -> None:
    faulty = FaultyStore(scene.store, [Rule(Fault.TIMEOUT, "get", key=scene.key(2))])
    told: list[VerifyResult] = []
    with pytest.raises(StoreUnavailable):
        scene.verifier(faulty).every("data", found=told.append)
    ids = {result.id for result in told}
    assert set(scene.ids[3:]) <= ids  # older ones may have been read before the failure was noticed
    assert scene.ids[2] not in ids


def test_notes_are_taken_by_and_by() -> None:
    now = 0.0
    recorded: list[list[str]] = []

    def record(results: Sequence[VerifyResult]) -> None:
        recorded.append([result.id for result in results])

    def finish(notes: Notes) -> None:
        nonlocal now
        for name, took in (("a", 1.0), ("b", 1.0), ("c", 3.0), ("d", 0.1)):
            now += took
            notes.add(VerifyResult(name, "data", ()))
        notes.add(VerifyResult("e", "data", (), "skipped"))
        notes.add(VerifyResult("f", "data", ("why",), "unverifiable"))

    with Notes(record, lambda: now) as notes:
        finish(notes)
        assert recorded == [["a", "b", "c"]]
    assert recorded == [["a", "b", "c"], ["d"]]
    with suppress(KeyboardInterrupt), Notes(record, lambda: now) as notes:
        notes.add(VerifyResult("g", "data", ("damaged",)))
        raise KeyboardInterrupt
    assert recorded[2:] == [["g"]]
    with Notes(record, lambda: now) as notes:
        for number in range(2001):
            notes.add(VerifyResult(str(number), "manifest", ()))
    assert [len(ids) for ids in recorded[3:]] == [2000, 1]


# -- several at once ---------------------------------------------------------------------------------------


class Meeting(FaultyStore):
    """Readers of a backup go on when so many of them read at once; it remembers how many ever did."""

    def __init__(self, inner: MemoryStore, parties: int) -> None:
        super().__init__(inner)
        self._barrier = threading.Barrier(parties, timeout=60)
        self._reading = 0
        self.most = 0

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if not key.endswith(".age"):
            yield from super().get(key, offset=offset, length=length)
            return
        with self._lock:
            self._reading += 1
            self.most = max(self.most, self._reading)
        self._barrier.wait()
        body = list(super().get(key, offset=offset, length=length))
        with self._lock:
            self._reading -= 1
        yield from body


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_so_many_at_once_and_no_more(scene: Scene, parallel: int) -> None:
    store = Meeting(scene.store, parallel)
    assert outcomes(scene.verifier(store).every("data", parallel=parallel)) == ["ok"] * 6
    assert store.most == parallel


# -- at a pace ---------------------------------------------------------------------------------------------


def test_the_pace_is_kept_over_all_that_is_read() -> None:
    now = 100.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(1000, wait=wait, clock=lambda: now)
    for _ in range(21):
        pace.take(500)
    assert now == pytest.approx(110.0)
    now += 1000.0
    pace.take(500)  # what was not used is not saved up
    pace.take(500)
    assert now == pytest.approx(1110.5)


def test_every_stored_byte_is_paced(scene: Scene) -> None:
    waited = 0.0

    def wait(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    pace = Pace(1000, wait=wait, clock=lambda: waited)
    scene.verifier(pace=pace).every("data")
    stored = sum(manifest.stored_bytes for manifest in scene.manifests)
    last = scene.manifests[0].stored_bytes  # the last piece of all delays nobody
    assert (stored - last) / 1000 <= waited <= stored / 1000


def test_who_waits_is_woken_when_it_is_over() -> None:
    pace = Pace(1)
    pace.take(10**9)
    ended = threading.Event()

    def reader() -> None:
        with pytest.raises(Stopped):
            pace.take(1)
        ended.set()

    thread = threading.Thread(target=reader)
    thread.start()
    pace.stop()
    thread.join(60)
    assert ended.is_set()


def test_a_failure_stops_the_other_readers(scene: Scene) -> None:
    """The first to read fails; the other would take years at this pace."""
    store = FaultyStore(scene.store, [Rule(Fault.TIMEOUT, "get", key=scene.key(5))])
    pace = Pace(1)
    pace.take(10**9)
    with pytest.raises(StoreUnavailable):
        scene.verifier(store, pace=pace).every("data", parallel=2)
