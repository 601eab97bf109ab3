"""A swap cut off at any step can be finished and taken back, with directories and with mount points."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import Corruption, EtcdGuardError
from etcdguard.restore.plan import PlannedMember, located
from etcdguard.restore.swap import occupied, put, put_back
from tests.unit.restore.world import World

FIRST = "0000000000000000-0000000000000000.wal"
LAYOUTS = [(), ("data",), ("wal",), ("data", "wal")]


class Disk:
    """One member with a separate WAL, staged; ``mounted`` says which of its directories are mount points."""

    def __init__(self, root: Path, mounted: tuple[str, ...]) -> None:
        world = World.make(root)
        data, wal = root / "data" / "m2", root / "wal" / "m2"
        mounts = [str(path) for path in (data, wal) if path.parent.name in mounted]
        self.root = root
        self.member: PlannedMember = located(world.plan, mounts).member("m2")
        (wal / "0000000000000001-0000000000000009.wal").write_text("more of the old log")
        for directory in (data, wal):
            directory.chmod(0o750)
            (directory / "lost+found").mkdir()
            (directory / "before-20200101T000000Z-00000000").mkdir()
        for place, name in zip(self.member.places, ("member", FIRST), strict=True):
            place.staged.mkdir(mode=0o700)
            (place.staged / name).write_text("new")
        self.before = self.picture()
        self.old = occupied([self.member])

    def picture(self) -> dict[str, tuple[int, str]]:
        """Mode of directories, and content of files."""
        return {
            str(path.relative_to(self.root)): (
                path.stat().st_mode,
                path.read_text() if path.is_file() else "",
            )
            for path in sorted(self.root.rglob("*"))
        }

    def put(self) -> None:
        put([self.member], self.old)

    def put_back(self) -> None:
        put_back([self.member], self.old)

    def assert_new(self) -> None:
        data, wal = self.member.places
        assert (data.target / "member").read_text() == "new"
        assert (wal.target / FIRST).read_text() == "new"
        assert not (wal.target / "0000000000000001-0000000000000009.wal").exists()
        assert (data.kept / "member" / "snap" / "db").read_text() == "old data of m2"
        assert (wal.kept / FIRST).read_text() == "old log of m2"
        assert (wal.kept / "0000000000000001-0000000000000009.wal").read_text() == "more of the old log"
        for place in self.member.places:
            assert place.target.stat().st_mode & 0o777 == 0o700
            assert place.kept.stat().st_mode & 0o777 == 0o750
            assert not place.staged.exists()
            assert not place.leaving.exists()
            if place.mounted:
                assert (place.target / "lost+found").exists()
                assert (place.target / "before-20200101T000000Z-00000000").exists()


class Crash(BaseException):
    """Nothing may catch it and go on."""


@contextmanager
def crash_before(step: int) -> Iterator[Callable[[], int]]:
    """Ends the process, as it were, before the step of that number; yields how many there have been."""
    done = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            nonlocal done
            if done == step:
                raise Crash
            done += 1
            return real(*arguments, **options)

        return one

    with pytest.MonkeyPatch.context() as patch:
        for name in ("rename", "mkdir", "rmdir", "chmod"):
            patch.setattr(Path, name, counted(getattr(Path, name)))
        patch.setattr(os, "chown", counted(os.chown))
        yield lambda: done


def crashes(act: Callable[[], None], step: int) -> bool:
    """Whether ``act`` had that many steps to be cut off at."""
    with crash_before(step):
        try:
            act()
        except Crash:
            return True
    return False


def every_crash(
    tmp_path: Path, mounted: tuple[str, ...], act: Callable[[Disk], None], first: Callable[[Disk], None]
) -> Iterator[Disk]:
    """A disk for each step of ``act`` at which it was cut off, after ``first``."""
    for step in range(1000):
        disk = Disk(tmp_path / f"{step}", mounted)
        first(disk)
        if not crashes(lambda disk=disk: act(disk), step):  # type: ignore[misc]
            assert step >= 4, "there was something to cut off"
            return
        yield disk


@pytest.mark.parametrize("mounted", LAYOUTS)
def test_put_and_put_back(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    disk = Disk(tmp_path, mounted)

    disk.put()
    disk.assert_new()
    disk.put()
    disk.assert_new()

    disk.put_back()
    assert disk.picture() == disk.before
    disk.put_back()
    assert disk.picture() == disk.before


@pytest.mark.parametrize("mounted", LAYOUTS)
def test_a_put_that_was_cut_off_goes_on(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    for disk in every_crash(tmp_path, mounted, Disk.put, lambda _: None):
        disk.put()
        disk.assert_new()


@pytest.mark.parametrize("mounted", LAYOUTS)
def test_a_put_that_was_cut_off_is_taken_back(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    for disk in every_crash(tmp_path, mounted, Disk.put, lambda _: None):
        disk.put_back()
        assert disk.picture() == disk.before


@pytest.mark.parametrize("mounted", LAYOUTS)
def test_a_rollback_that_was_cut_off_goes_on_or_forward(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    for number, disk in enumerate(every_crash(tmp_path / "on", mounted, Disk.put_back, Disk.put)):
        if number % 2:
            disk.put()
            disk.assert_new()
        disk.put_back()
        assert disk.picture() == disk.before
    for disk in every_crash(tmp_path / "forward", mounted, Disk.put_back, Disk.put):
        disk.put()
        disk.assert_new()


@pytest.mark.parametrize("mounted", [("wal",)])
def test_two_crashes_in_both_directions(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    for step in range(100):
        ends = []
        for later in range(100):
            disk = Disk(tmp_path / f"{step}-{later}", mounted)
            begun = crashes(disk.put, step)
            ends.append(crashes(disk.put_back, later))
            disk.put_back()
            assert disk.picture() == disk.before
            if not ends[-1]:
                break
        if not begun:
            return
    pytest.fail("the swap has no end")


@pytest.mark.parametrize("mounted", LAYOUTS)
def test_a_rollback_that_gets_stuck_says_how_to_finish(tmp_path: Path, mounted: tuple[str, ...]) -> None:
    disk = Disk(tmp_path, mounted)
    disk.put()
    data, wal = disk.member.places
    (data.staged / "member" if data.mounted else data.staged).mkdir(parents=True)

    with pytest.raises(EtcdGuardError, match="could not take every rename back") as stuck:
        disk.put_back()

    assert (wal.target / FIRST).read_text() == "old log of m2", "the other directory is back"
    commands = stuck.value.hint.partition("run: ")[2]
    (data.staged / "member" if data.mounted else data.staged).rmdir()
    assert os.system(commands) == 0
    assert (data.target / "member" / "snap" / "db").read_text() == "old data of m2"
    assert (data.staged / "member").read_text() == "new"
    assert not data.kept.exists()
    assert not data.leaving.exists()


def test_what_was_staged_and_is_gone_moves_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path, ())
    wal = disk.member.places[1]
    (wal.staged / FIRST).unlink()
    wal.staged.rmdir()
    (data, _) = disk.member.places
    with pytest.raises(Corruption, match=re.escape(f"{wal.staged} is gone")) as error:
        disk.put()
    assert "run the plan again" in error.value.hint
    disk.put_back()
    assert (data.target / "member" / "snap" / "db").read_text() == "old data of m2"
    assert not data.kept.exists()


def test_what_had_no_old_directory_goes_back_to_where_it_was_staged(tmp_path: Path) -> None:
    disk = Disk(tmp_path, ())
    for place in disk.member.places:
        shutil.rmtree(place.target)
    disk.old = occupied([disk.member])
    assert set(disk.old.values()) == {False}
    disk.put()
    assert all(place.target.exists() and not place.staged.exists() for place in disk.member.places)
    disk.put_back()
    disk.put_back()
    for place in disk.member.places:
        assert place.staged.exists()
        assert not place.target.exists()
