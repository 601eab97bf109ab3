"""What a person and a log see of a restore."""

from __future__ import annotations

import sys

import click
import pytest
from structlog.testing import capture_logs

from etcdguard.cli.restore_watch import watcher
from etcdguard.cli.session import Session
from etcdguard.errors import Refused
from etcdguard.restore.steps import StepProgress
from tests.unit.cli.test_restore_begun import Terminal

HALF = StepProgress(progress="fetch", bytes=2**19, total_bytes=2**20)


def test_a_person_gets_lines_and_bars_and_the_terminal_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    seen = watcher(Session({}))
    seen.phase("stage")
    seen.progress("cp1", HALF)
    assert sys.stderr is not screen, "a bar is drawn below the lines"
    seen.progress("cp2", HALF)
    seen.answered("cp1", "stage", 61.0, None)
    seen.answered("cp2", "stage", 2.0, Refused("the disk is full", hint="x"))
    seen.phase("barrier")
    assert sys.stderr is screen
    seen.note("cp3 is slow")
    lines = [line.strip() for line in click.unstyle(screen.getvalue()).replace("\r", "\n").splitlines()]
    for expected in ("stage", "cp1: stage ok, 1m1s", "cp2: stage FAILED: the disk is full", "barrier"):
        assert any(line.endswith(expected) for line in lines), expected
    assert lines[-1] == "note: cp3 is slow"
    assert "cp1: fetch" in screen.getvalue()
    assert "cp2: fetch" in screen.getvalue()


def test_without_bars_there_are_only_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    seen = watcher(Session({}))
    seen.phase("preflight")
    seen.answered("cp1", "preflight", 0.5, None)
    assert click.unstyle(screen.getvalue()).splitlines()[0] == "preflight"
    assert click.unstyle(screen.getvalue()).splitlines()[1].startswith("  cp1: preflight ok, ")


@pytest.mark.parametrize("verbosity", [0, -1])
def test_a_log_gets_events(monkeypatch: pytest.MonkeyPatch, verbosity: int) -> None:
    if verbosity < 0:
        monkeypatch.setattr(sys, "stderr", Terminal())
    seen = watcher(Session({}, verbosity=verbosity))
    with capture_logs() as logs:
        seen.phase("stage")
        seen.progress("cp1", HALF)
        seen.answered("cp1", "stage", 1.23456, None)
        seen.answered("cp2", "stage", 2.0, Refused("the disk is full", hint="x"))
        seen.note("cp3 is slow")
    assert logs == [
        {"event": "restore.phase", "log_level": "info", "phase": "stage"},
        {"event": "restore.step", "log_level": "info", "host": "cp1", "step": "stage", "seconds": 1.235},
        {
            "event": "restore.step_failed",
            "log_level": "warning",
            "host": "cp2",
            "step": "stage",
            "error": "the disk is full",
        },
        {"event": "restore.note", "log_level": "warning", "note": "cp3 is slow"},
    ]
