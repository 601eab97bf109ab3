"""What ``backup`` shows of a slot that has its backup, and of what it shipped."""

from __future__ import annotations

from etcdguard.cli.backup import _shipped_table, _skipped_table


def test_a_slot_that_is_satisfied() -> None:
    document = {
        "outcome": "skipped",
        "slot": "20261121T020000Z",
        "satisfied": True,
        "reason": "node-2 took it",
    }
    assert [line.split(None, 1) for line in _skipped_table(document).splitlines()] == [
        ["skipped", "20261121T020000Z"],
        ["reason", "node-2 took it"],
    ]


def test_what_was_shipped_where() -> None:
    there = [
        {"name": "one", "outcome": "stored"},
        {"name": "two", "outcome": "failed", "error": "it is full"},
    ]
    document = {"outcome": "shipped", "backups": [{"id": "b1", "repositories": there, "superseded_by": None}]}
    assert [line.split(None, 1) for line in _shipped_table(document).splitlines()] == [
        ["b1", "one: stored"],
        ["b1", "two: failed"],
    ]
    assert _shipped_table({"backups": []}).split(None, 1) == ["spool", "nothing waits"]
