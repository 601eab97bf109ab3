from __future__ import annotations

from datetime import timedelta

import pytest

from etcdguard.catalog.standing import Standing, Verified, reaches
from tests.support.backups import START

LEVELS = ("manifest", "data", "drill")


@pytest.mark.parametrize("deep", range(3))
@pytest.mark.parametrize("other", range(3))
def test_a_level_reaches_those_above_and_itself(deep: int, other: int) -> None:
    assert reaches(LEVELS[deep], LEVELS[other]) is (deep >= other)


def look(level: str, minute: int) -> Verified:
    return Verified(level, START + timedelta(minutes=minute))


@pytest.mark.parametrize("sound", [True, False])
def test_a_level_of_a_later_version_changes_nothing(sound: bool) -> None:
    before = Standing(look("data", 1), look("drill", 0))
    assert before.after(look("spectral", 2), sound=sound) is before


def test_a_failure_takes_away_what_was_sound() -> None:
    failed = look("manifest", 2)
    assert Standing(look("drill", 1)).after(failed, sound=False) == Standing(None, failed)


@pytest.mark.parametrize(
    ("level", "sound", "failed"),
    [("manifest", "data", "data"), ("data", "data", None), ("drill", "drill", None)],
)
def test_a_sound_look_counts_from_its_own_depth(level: str, sound: str, failed: str | None) -> None:
    """One as deep is the newer word, both for what is sound and for what has failed."""
    new = look(level, 2)
    after = Standing(look("data", 1), look("data", 0)).after(new, sound=True)
    assert after.sound == (look("data", 1) if level == "manifest" else new)
    assert after.sound is not None
    assert after.sound.level == sound
    assert (after.failed and after.failed.level) == failed


def test_what_is_proven_is_so_at_every_level_above() -> None:
    never, read = Standing[Verified](), Standing(Verified("data", START))
    assert [never.proven(level) for level in LEVELS] == [None, None, None]
    assert [read.proven(level) for level in LEVELS] == [read.sound, read.sound, None]
