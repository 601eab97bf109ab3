from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from etcdguard.backup.spool import Spool, SpooledBackup, SpoolEntry, writing
from etcdguard.errors import Corruption, Locked, SpoolFailed
from etcdguard.model import Cluster, Compression, ObjectEntry, SnapshotFacts
from tests.support.backups import START


def facts(revision: int = 5) -> SpooledBackup:
    backup_id = f"20261121T020000Z-r{revision:020d}-9f31c2aa"
    return SpooledBackup(
        id=backup_id,
        created_at=START + timedelta(microseconds=123456),
        cluster=Cluster(
            name="prod", cluster_id="cafe", member_id="a1", member_name="etcd-1", etcd_version="3.6.0"
        ),
        members=(),
        snapshot=SnapshotFacts(
            revision=revision,
            compact_revision=-1,
            consistent_index=1,
            total_keys=1,
            db_bytes=4096,
            sha256="0" * 64,
        ),
        hash_kv=None,
        stored=ObjectEntry(key=f"backups/{backup_id}/snapshot.db.zst.age", bytes=4, sha256="0" * 64),
        compression=Compression(algorithm="zstd", level=1),
        encryption=None,
        repositories=("one", "two"),
    )


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    made = Spool(tmp_path / "var" / "spool")
    with made.locked():
        pass
    return made


def written(spool: Spool, revision: int = 5) -> SpoolEntry:
    entry = spool.new_entry()
    with entry.create() as out:
        out.write(b"data")
    entry.complete(facts(revision))
    return entry


def test_an_object_goes_to_the_disk_as_it_is_written(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    real = os.posix_fadvise

    def noting(descriptor: int, begin: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        real(descriptor, begin, size, advice)
        sent.append((begin, size))

    monkeypatch.setattr(os, "posix_fadvise", noting)
    block, entry = os.urandom(700_001), spool.new_entry()
    with entry.create() as out:
        for _ in range(30):
            out.write(block)
    assert entry.object_path.read_bytes() == block * 30
    assert len(sent) == 2
    assert [begin for begin, _ in sent] == [0, sent[0][1]], "each where the one before ended"
    assert all(8 * 2**20 <= size < 10 * 2**20 for _, size in sent)


def test_an_entry_from_birth_to_end(spool: Spool) -> None:
    entry = spool.new_entry()
    assert entry.backup() is None
    with entry.create() as out:
        out.write(b"data")
        assert entry.backup() is None
    assert entry.backup() is None, "whole only when it says so"

    entry.complete(facts())
    assert entry.backup() == facts()
    assert entry.object_path.read_bytes() == b"data"
    assert (entry.frozen(), entry.delivered()) == (None, set())

    entry.freeze(b"manifest", b"signature")
    assert entry.frozen() == (b"manifest", b"signature")
    entry.mark_delivered("two")
    entry.mark_delivered("two")
    assert entry.delivered() == {"two"}

    assert spool.entries() == [entry]
    entry.discard()
    assert spool.entries() == []
    assert [path.name for path in spool.path.iterdir()] == ["lock"]


def test_an_unsigned_manifest_is_frozen_too(spool: Spool) -> None:
    entry = written(spool)
    entry.freeze(b"manifest", None)
    assert entry.frozen() == (b"manifest", None)


def test_nobody_else_can_read_it(spool: Spool) -> None:
    old = os.umask(0)
    try:
        entry = written(spool)
        entry.freeze(b"manifest", b"signature")
        entry.mark_delivered("one")
    finally:
        os.umask(old)
    assert spool.path.stat().st_mode & 0o777 == 0o700
    assert entry.path.stat().st_mode & 0o777 == 0o700
    files = [spool.path / "lock", *entry.path.iterdir()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert {path.name for path in entry.path.iterdir()} == {
        "snapshot.bin", "backup.json", "manifest.json", "manifest.json.sig", "delivered-one"
    }  # fmt: skip


def test_entries_come_oldest_first(spool: Spool) -> None:
    entries = [written(spool, revision) for revision in (7, 5, 6)]
    for age, entry in enumerate(reversed(entries)):
        os.utime(entry.path, ns=(0, 10**18 - age))
    assert [entry.backup() for entry in spool.entries()] == [facts(7), facts(5), facts(6)]


def test_what_is_not_ours_is_left_alone(spool: Spool) -> None:
    """A disk's own lost+found, and whatever stands there when spool_dir names a folder with other things."""
    for name in ("lost+found", "repository", "0" * 15, "0" * 17, "A" * 16):
        (spool.path / name).mkdir()
    (spool.path / ("0" * 16)).write_text("a file")
    assert spool.entries() == []


def test_an_object_is_never_written_twice(spool: Spool) -> None:
    entry = written(spool)
    with pytest.raises(FileExistsError):
        entry.create()


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", facts().model_dump_json().replace("prod", "").encode()[:-5]]
)
def test_facts_that_cannot_be_read_are_not_taken_for_an_incomplete_entry(spool: Spool, raw: bytes) -> None:
    entry = written(spool)
    (entry.path / "backup.json").write_bytes(raw)
    with pytest.raises(Corruption, match="is unreadable") as failure:
        entry.backup()
    assert "move it away by hand" in failure.value.hint


def test_one_run_at_a_time(spool: Spool) -> None:
    with spool.locked():
        with (
            pytest.raises(Locked, match="another etcdguard backup is running") as failure,
            Spool(spool.path).locked(),
        ):
            pytest.fail("two runs at once")
        assert failure.value.exit_code == 11
    with Spool(spool.path).locked():
        pass


def test_a_run_waits_for_another_as_long_as_it_has_patience(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as other:
        other.enter_context(spool.locked())
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.close()

        monkeypatch.setattr("etcdguard.backup.spool.time.sleep", sleep)
        with capture_logs() as logs, Spool(spool.path).locked(patience=300.0):
            assert waits == [0.05] * 3
        assert [line["event"] for line in logs] == ["spool.waiting"]


def test_the_slots_whose_backups_wait(spool: Spool, tmp_path: Path) -> None:
    assert Spool(tmp_path / "nowhere").slots("prod") == {}
    spool.new_entry()
    written(spool)
    ours, foreign, damaged = (spool.new_entry() for _ in range(3))
    for entry, cluster in ((ours, "prod"), (foreign, "staging"), (damaged, "prod")):
        entry.create().close()
        whole = facts(7)
        name = whole.cluster.model_copy(update={"name": cluster})
        entry.complete(whole.model_copy(update={"slot": f"slot of {cluster}", "cluster": name}))
    (damaged.path / "backup.json").write_text("rotten")
    assert spool.slots("prod") == {"slot of prod": facts(7).id}
    assert spool.slots("staging") == {"slot of staging": facts(7).id}


def test_the_lock_goes_with_an_exception(spool: Spool) -> None:
    with pytest.raises(KeyError), spool.locked():
        raise KeyError
    with spool.locked():
        pass


def test_a_place_that_cannot_be_a_spool(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(SpoolFailed, match="cannot use the spool") as failure,
        Spool(tmp_path / "file" / "x").locked(),
    ):
        pytest.fail("a file is no folder")
    assert failure.value.exit_code == 1
    assert "backup.spool_dir" in failure.value.hint


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "free space"),
        (errno.EIO, "check the disk"),
        (errno.EROFS, "check"),
    ],
)
def test_what_a_disk_can_say(tmp_path: Path, number: int, hint: str) -> None:
    with pytest.raises(SpoolFailed, match=os.strerror(number)) as failure, writing(tmp_path):
        raise OSError(number, os.strerror(number))
    assert hint in failure.value.hint


@pytest.mark.parametrize("step", ["new_entry", "complete", "freeze", "mark_delivered"])
def test_every_write_is_translated(spool: Spool, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    entry = spool.new_entry()
    with entry.create() as out:
        out.write(b"data")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    steps: dict[str, Callable[[], object]] = {
        "new_entry": spool.new_entry,
        "complete": lambda: entry.complete(facts()),
        "freeze": lambda: entry.freeze(b"manifest", None),
        "mark_delivered": lambda: entry.mark_delivered("one"),
    }
    with pytest.raises(SpoolFailed, match="No space left"):
        steps[step]()


def test_a_write_that_failed_leaves_what_was_there(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = written(spool)
    entry.freeze(b"first", None)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SpoolFailed):
        entry.freeze(b"second", None)
    assert entry.frozen() == (b"first", None)


def test_an_upload_begun_is_remembered_while_the_entry_is_incomplete(spool: Spool) -> None:
    with spool.locked():
        entry = spool.new_entry()
        assert entry.upload_begun() is None
        entry.create().close()
        assert entry.upload_begun() is None
        entry.begin_upload("prod/backups/x")
        assert entry.upload_begun() == "prod/backups/x"
        assert entry.backup() is None
