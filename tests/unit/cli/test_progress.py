from __future__ import annotations

import io
import json
import sys

import pytest
from rich.console import Console

from etcdguard import log
from etcdguard.cli.bars import BarProgress, HostBars
from etcdguard.cli.progress import LogProgress, watch
from etcdguard.cli.restore_watch import _Events
from etcdguard.restore.steps import StepProgress


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for line in lines:
        del line["timestamp"]
    return lines


def test_a_line_every_thirty_seconds_of_a_phase(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    clock = _Clock()
    progress = LogProgress(clock)
    progress.phase("snapshot", 1000)
    for clock.now in (10.0, 29.9, 30.0, 31.0, 60.0):
        progress.advance(100)
    progress.phase("upload", None)
    for clock.now in (80.0, 90.0):
        progress.advance(300)
    progress.done()
    event = {"event": "progress", "level": "info"}
    snapshot = event | {"phase": "snapshot", "total_bytes": 1000}
    assert _lines(capsys) == [
        snapshot | {"bytes": 300, "percent": 30, "bytes_per_second": 10},
        snapshot | {"bytes": 500, "percent": 50, "bytes_per_second": 8},
        event | {"phase": "upload", "bytes": 600, "bytes_per_second": 20},
    ]


def test_a_short_phase_logs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    with watch(bar=False, clock=_Clock()) as progress:
        progress.phase("snapshot", 10)
        progress.advance(10)
    assert _lines(capsys) == []


def test_the_bar_shows_the_running_phase_and_leaves_the_terminal_as_it_was() -> None:
    screen = io.StringIO()
    progress = BarProgress(Console(file=screen, force_terminal=True, width=100))
    progress.advance(1)  # before any phase: nothing to show
    progress.phase("snapshot", 2 * 2**20)
    progress.advance(2**20)
    progress.phase("upload", None)
    progress.advance(5)
    progress.done()
    shown = screen.getvalue()
    assert "snapshot" in shown
    assert "upload" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_log_lines_go_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    log.configure("json")
    progress = BarProgress(Console(file=screen, force_terminal=True, width=200))
    progress.phase("snapshot", 100)
    proxied = sys.stderr
    log.get_logger().info("member.chosen", member="m1")
    progress.done()
    assert proxied is not screen
    assert sys.stderr is screen
    assert "member.chosen" in screen.getvalue()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_stopped_when_the_command_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = _Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")

    def work() -> None:
        with watch(bar=True, clock=_Clock()) as progress:
            progress.phase("snapshot", 100)
            assert sys.stderr is not stderr
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert sys.stderr is stderr


def test_every_host_has_a_bar_and_leaves_nothing() -> None:
    screen = io.StringIO()
    shown = HostBars(Console(file=screen, force_terminal=True, width=200))
    shown.update("cp1", "fetch", 2**19, 2**20)
    shown.update("cp2", "fetch", 2**20, 2**20)
    shown.update("cp2", "stage", 0, None)
    shown.remove("cp1")
    shown.remove("cp1")
    shown.close()
    text = screen.getvalue()
    assert "cp1: fetch" in text
    assert "cp2: stage" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_log_has_a_line_a_host_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("json")
    clock = _Clock()
    events = _Events(clock)
    for _ in range(100):  # 95 s
        for host in ("cp1", "cp2"):
            events.progress(host, StepProgress(progress="fetch", bytes=int(clock.now), total_bytes=200))
        clock.now += 0.95

    lines = _lines(capsys)
    assert [line["host"] for line in lines] == ["cp1", "cp2"] * 3
    assert {line["event"] for line in lines} == {"restore.progress"}
    assert (lines[0]["bytes"], lines[0]["total_bytes"], lines[0]["percent"]) == (30, 200, 15)
