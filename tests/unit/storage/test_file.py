"""What is particular to FileStore: durability, privacy, and a missing disk that is no empty repository."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import AccessDenied, ObjectNotFound, RepositoryError, StoreUnavailable
from etcdguard.storage.arguments import RESERVED
from etcdguard.storage.base import StaleUpload
from etcdguard.storage.durable import make_folders
from etcdguard.storage.file import FileStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backup" / "repository"


@pytest.fixture
def store(root: Path) -> FileStore:
    return FileStore.create("local", root)


def every_call(store: FileStore) -> list[Callable[[], object]]:
    return [
        lambda: store.put("a", b"1"),
        lambda: store.put("a", b"1", create_only=True),
        lambda: list(store.get("a")),
        lambda: store.head("a"),
        lambda: list(store.list("")),
        lambda: list(store.list("prod/")),
        lambda: store.delete("a"),
        lambda: store.multipart("a"),
        lambda: store.stale_uploads(""),
    ]


# a root that is not there


def test_a_missing_directory_is_an_error_for_every_call(root: Path) -> None:
    for call in every_call(FileStore("local", root)):
        with pytest.raises(RepositoryError, match="not a directory") as caught:
            call()
        assert not isinstance(caught.value, ObjectNotFound)
        assert "mount" in caught.value.hint
    assert not root.exists()


def test_an_unmounted_disk_is_not_an_empty_repository(root: Path) -> None:
    root.mkdir(parents=True)
    for call in every_call(FileStore("local", root)):
        with pytest.raises(RepositoryError, match="never set up"):
            call()
    assert list(root.iterdir()) == []


def test_a_copied_repository_can_be_read_without_its_staging_folder(store: FileStore, root: Path) -> None:
    store.put("prod/a", b"1")
    (root / RESERVED).rmdir()
    assert [info.key for info in FileStore("copy", root).list("")] == ["prod/a"]
    FileStore("copy", root).put("prod/b", b"2")


def test_create_is_repeatable_and_private(root: Path) -> None:
    FileStore.create("local", root).put("a", b"1")
    FileStore.create("local", root)
    assert [info.key for info in FileStore("local", root).list("")] == ["a"]
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


# files


def test_files_and_folders_are_private(store: FileStore, root: Path) -> None:
    store.put("prod/backups/x/manifest.json", b"{}")
    writer = store.multipart("prod/big")
    writer.write_part(1, b"1")
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_delete_takes_empty_folders_along_but_never_the_root(store: FileStore, root: Path) -> None:
    store.put("prod/backups/x/a", b"1")
    store.put("prod/other", b"1")
    store.delete("prod/backups/x/a")
    assert not (root / "prod" / "backups").exists()
    store.delete("prod/other")
    assert [path.name for path in root.iterdir()] == [RESERVED]
    assert list(store.list("")) == []


def test_staged_files_are_never_listed(store: FileStore) -> None:
    store.multipart("prod/big").write_part(1, b"data")
    assert list(store.list("")) == []
    assert list(store.list(RESERVED[:5])) == []
    with pytest.raises(RepositoryError):
        list(store.list(f"{RESERVED}/"))


def test_nothing_is_left_staged_after_success_or_failure(store: FileStore, root: Path) -> None:
    store.put("a", b"1", create_only=True)
    with pytest.raises(RepositoryError):
        store.put("a", b"2", create_only=True)
    with pytest.raises(RepositoryError):
        store.put("a/b", b"a is no folder")
    assert list((root / RESERVED).iterdir()) == []


def test_links_are_refused_not_followed_or_skipped(store: FileStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("outside")
    (root / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(RepositoryError, match="neither a file nor a folder"):
        list(store.list(""))
    with pytest.raises(RepositoryError) as caught:
        list(store.get("link"))
    assert not isinstance(caught.value, ObjectNotFound)


def test_a_folder_that_cannot_be_read_fails_the_listing(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("prod/a", b"1")
    store.put("test/a", b"1")
    scandir = os.scandir

    def denied(path: Path) -> Any:
        if path.name == "test":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(AccessDenied, match="Permission denied"):
        list(store.list(""))


def test_a_file_that_shrinks_while_read_is_a_fault_not_an_end(store: FileStore, root: Path) -> None:
    store.put("a", b"x" * (2 << 20))
    pieces = store.get("a")
    next(pieces)
    os.truncate(root / "a", 1 << 20)
    with pytest.raises(StoreUnavailable, match="early"):
        next(pieces)


# uploads


def test_uploads_of_killed_writers_are_found(store: FileStore, root: Path) -> None:
    folder = root / RESERVED / ("0" * 32)
    folder.mkdir()
    (folder / "part-00001").write_bytes(b"data")
    (root / RESERVED / "not ours").mkdir()
    (found,) = store.stale_uploads("prod/")
    assert found.key == ""
    store.abort_upload(found)
    assert store.stale_uploads("") == []
    assert [path.name for path in (root / RESERVED).iterdir()] == ["not ours"]


def test_only_our_own_uploads_can_be_removed(store: FileStore, root: Path) -> None:
    store.put("prod/a", b"1")
    store.multipart("x")
    (upload,) = store.stale_uploads("")
    with pytest.raises(ValueError, match="not an upload"):
        store.abort_upload(StaleUpload("prod", "../prod", upload.started_at))
    assert (root / "prod" / "a").exists()


# errors and durability


@pytest.mark.parametrize(
    ("number", "kind", "hint"),
    [
        (errno.ENOSPC, RepositoryError, "free space"),
        (errno.EDQUOT, RepositoryError, "free space"),
        (errno.EROFS, AccessDenied, "mode"),
        (errno.EACCES, AccessDenied, "mode"),
        (errno.ESTALE, StoreUnavailable, "network"),
        (errno.EIO, RepositoryError, "disk"),
    ],
)
def test_a_failing_disk_is_reported_and_leaves_nothing(
    store: FileStore,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[RepositoryError],
    hint: str,
) -> None:
    def fails(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(kind) as caught:
        store.put("prod/a", b"1")
    monkeypatch.undo()
    assert type(caught.value) is kind
    assert hint in caught.value.hint
    assert os.strerror(number) in caught.value.message
    assert list(store.list("")) == []
    assert store.stale_uploads("") == []


class Trace:
    """Records what is synced and what becomes visible, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.steps: list[str] = []
        self._root = root
        fsync, link, unlink, rmdir = os.fsync, os.link, Path.unlink, Path.rmdir

        def traced_fsync(fd: int) -> None:
            self._note("sync", Path(f"/proc/self/fd/{fd}").readlink())
            fsync(fd)

        def traced_link(source: Path, target: Path) -> None:
            self._note("link", target)
            link(source, target)

        def traced_unlink(path: Path) -> None:
            self._note("unlink", path)
            unlink(path)

        def traced_rmdir(path: Path) -> None:
            rmdir(path)
            self._note("rmdir", path)

        monkeypatch.setattr(os, "fsync", traced_fsync)
        monkeypatch.setattr(os, "link", traced_link)
        monkeypatch.setattr(Path, "unlink", traced_unlink)
        monkeypatch.setattr(Path, "rmdir", traced_rmdir)

    def _note(self, what: str, path: Path) -> None:
        name = str(path.relative_to(self._root))
        self.steps.append(f"{what} {'(staged)' if name.startswith(RESERVED) else name}")


def test_data_is_synced_before_its_key_and_every_folder_after(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("prod/other", b"")
    trace = Trace(monkeypatch, root)
    store.put("prod/backups/a", b"1", create_only=True)
    link = trace.steps.index("link prod/backups/a")
    assert "sync (staged)" in trace.steps[:link]
    assert trace.steps[link + 1 :] == ["sync prod/backups", "sync prod", "sync ."]


def test_deletion_is_synced_in_every_folder_that_changed(
    store: FileStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("prod/backups/a", b"1")
    store.put("prod/other", b"1")
    trace = Trace(monkeypatch, root)
    store.delete("prod/backups/a")
    assert trace.steps == ["unlink prod/backups/a", "sync prod/backups", "rmdir prod/backups", "sync prod"]


def test_an_upload_whose_disk_filled_up_can_be_completed_later(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store.multipart("big")
    for number in (1, 2, 3):
        writer.write_part(number, b"%d" % number * 1000)
    fsync = os.fsync

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RepositoryError):
        writer.complete()
    monkeypatch.setattr(os, "fsync", fsync)
    assert writer.complete().size == 3000
    assert b"".join(store.get("big")) == b"1" * 1000 + b"2" * 1000 + b"3" * 1000


def test_a_folder_that_another_made_and_removed_meanwhile_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, wanted = os.mkdir, tmp_path / "shared"

    def beaten_once(path: Path, *args: int) -> None:
        monkeypatch.undo()
        make(path, *args)
        with pytest.raises(FileExistsError) as beaten:
            make(path, *args)
        path.rmdir()
        raise beaten.value

    monkeypatch.setattr(os, "mkdir", beaten_once)
    make_folders(wanted)
    assert wanted.is_dir()


def test_put_survives_deletes_that_remove_its_folder(store: FileStore) -> None:
    def put_and_delete(number: int) -> None:
        for _ in range(30):
            store.put(f"shared/folder/{number}", b"1")
            store.delete(f"shared/folder/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put_and_delete, range(4)))
    assert list(store.list("")) == []


def test_a_folder_that_keeps_disappearing_is_an_error(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def link(source: Path, target: Path) -> None:
        tries.append(target.name)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(StoreUnavailable, match="the folder of a/b keeps disappearing"):
        store.put("a/b", b"1", create_only=True)
    assert len(tries) > 1
    monkeypatch.undo()
    assert list(store.list("")) == []
