from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etcdguard.maintenance.checks.history import History, decode, encode
from etcdguard.maintenance.checks.history_file import HistoryFile
from tests.unit.maintenance.facts import NOW, counters, histogram, sample, status

MINUTE = timedelta(minutes=1)


def test_weeks_of_looks_stay_small_and_keep_what_trends_need() -> None:
    history = History("c")
    minutes = 16 * 24 * 60
    for minute in range(0, minutes + 1, 8):
        history = history.with_sample("c", sample((minutes - minute) * 60))
    for second in range(100):
        history = history.with_sample("c", sample(-second - 1))

    newest = history.samples[-1].at
    assert len(history.samples) <= 60
    assert all(newest - one.at <= 16 * MINUTE for one in history.samples)
    assert 13 * 12 + 24 * 6 <= len(history.sizes) <= 14 * 12 + 25 * 6
    assert timedelta(days=13) < newest - history.sizes[0].at <= timedelta(days=14)
    assert len(encode(history)) < 200_000


def test_a_look_every_minute_covers_the_quarter_of_an_hour_that_rates_want() -> None:
    history = History("c")
    for minute in range(40):
        history = history.with_sample("c", sample(-60 * minute))
    now = NOW + 40 * MINUTE
    assert now - history.before(now)[0].at >= 15 * MINUTE


def test_another_cluster_and_a_clock_that_was_set_back_begin_anew() -> None:
    history = History("c").with_sample("c", sample(120)).with_sample("c", sample(60))
    assert len(history.samples) == len(history.with_sample("c", sample(60)).samples) == 2
    other = history.with_sample("d", sample(0))
    assert (other.cluster_id, len(other.samples), len(other.sizes)) == ("d", 1, 1)
    assert [one.at for one in history.with_sample("c", sample(90)).samples] == [
        NOW - 2 * MINUTE,
        NOW - 1.5 * MINUTE,
    ]
    assert history.before(NOW - 1.5 * MINUTE) == history.samples[:1]
    assert history.before(NOW + 15.5 * MINUTE) == ()


def test_sizes_are_of_the_largest_and_of_the_member_in_the_middle() -> None:
    look = sample(
        0,
        {1: counters(keys=50.0), 2: counters(keys=9000.0), 3: counters(keys=51.0)},
        {1: status(1, db_size=10), 2: status(2, db_size=30)},
    )
    (size,) = History("c").with_sample("c", look).sizes
    assert (size.db_bytes, size.keys, size.counted) == (30, 51, "keys")
    (unknown,) = History("c").with_sample("c", sample(0, {1: counters(keys=None)})).sizes
    assert unknown.keys is None
    assert History("c").with_sample("c", sample(0, {}, {})).sizes == ()


def test_what_is_written_is_read_again_and_nothing_else_is() -> None:
    rich = counters(keys=None, peer_round_trip={"a2": histogram(0.01)}, wal_fsync=None)
    history = History("c").with_sample("c", sample(60, {1: rich})).with_sample("c", sample(0))
    assert decode(encode(history)) == history
    text = encode(history)
    for bad in (b"", b"{}", b"[]", text[:-3], text.replace(b'"c"', b"7", 1), text.replace(b"Z", b"")):
        with pytest.raises(ValueError, match=r"."):
            decode(bad)


def test_the_file_is_private_and_a_bad_one_is_none(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "state")
    assert file.read() is None
    history = History("c").with_sample("c", sample(0))
    file.write(replace(history, cluster_id="old"))
    file.write(history)
    assert file.read() == history
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == [file.path.name]
    file.path.write_bytes(b"{")
    assert file.read() is None
    file.path.unlink()
    file.path.mkdir()
    assert file.read() is None
    with pytest.raises(OSError, match=os.strerror(21)):
        file.write(history)
