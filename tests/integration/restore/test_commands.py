"""Running the tool: a clean environment, its last words, and no survivors."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import EtcdGuardError
from etcdguard.restore import commands
from etcdguard.restore.commands import run_commands
from etcdguard.restore.machine import LOCAL
from tests.support.waiting import alive, eventually

_PRINT_ENV = "import os,sys; open(sys.argv[1],'w').write(repr(sorted(os.environ)))"


def test_every_command_runs_with_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "http://elsewhere:2379")
    files = [tmp_path / str(number) for number in range(3)]

    run_commands([[sys.executable, "-E", "-c", _PRINT_ENV, str(file)] for file in files], 2)

    for file in files:
        assert "ETCDCTL_API" in file.read_text()
        assert "ETCDCTL_ENDPOINTS" not in file.read_text()


def test_a_failure_tells_the_last_line_and_ends_the_others() -> None:
    began = time.monotonic()
    fail = ["sh", "-c", "echo first >&2; echo 'Error: snapshot file is torn' >&2; echo >&2; exit 3"]

    with pytest.raises(EtcdGuardError, match="sh ended with code 3: Error: snapshot file is torn"):
        run_commands([["sleep", "60"], fail], 2)

    assert time.monotonic() - began < 30


_FATAL = '2026-11-21T17:52:03Z\tfatal\tbackend.go:1\tfailed to commit tx\t{"error": "input/output error"}'


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (_FATAL, 'fatal backend.go:1 failed to commit tx {"error": "input/output error"}'),
        ("panic: tx closed", "panic: tx closed"),
        (f"{_FATAL}\npanic: nil pointer", 'input/output error"}; panic: nil pointer'),
        ('{"level":"error","msg":"no space left on device"}', "no space left on device"),
    ],
    ids=["logger", "panic", "logger, then panic", "JSON"],
)
def test_a_failure_tells_the_cause_and_not_the_stack(cause: str, told: str) -> None:
    script = "printf '%s\\n' \"$0\" main.main '  runtime/proc.go:290' >&2; exit 1"
    with pytest.raises(EtcdGuardError, match=re.escape(told)) as error:
        run_commands([["sh", "-c", script, cause]], 1)
    assert "proc.go" not in error.value.message


def test_of_a_failure_without_a_cause_the_last_line_is_told() -> None:
    script = "printf '2026-11-21T17:52:03Z\\tinfo\\tadded member\\n\\n' >&2; exit 1"
    with pytest.raises(EtcdGuardError, match=r"did not say why, and wrote last: .* info added member"):
        run_commands([["sh", "-c", script]], 1)


def test_a_line_that_is_no_log_is_a_cause() -> None:
    script = "printf 'no space left\n2026-11-21T17:52:03Z\tinfo\tbye\n' >&2; exit 3"
    with pytest.raises(EtcdGuardError, match=r"sh ended with code 3: no space left$"):
        run_commands([["sh", "-c", script]], 1)


def test_a_command_that_starts_after_a_failure_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a busy machine: one has failed before the other's process is there."""
    start, failed = subprocess.Popen, threading.Event()

    def late(argv: list[str], **options: Any) -> Any:
        if "sleep" in argv:
            failed.wait()
        return start(argv, **options)

    def told(futures: Any) -> Any:
        for future in as_completed(futures):
            if future.exception() is not None:
                threading.Timer(0.2, failed.set).start()
            yield future

    monkeypatch.setattr(subprocess, "Popen", late)
    monkeypatch.setattr(commands, "as_completed", told)
    began = time.monotonic()
    with pytest.raises(EtcdGuardError, match="ended with code 3"):
        run_commands([["sleep", "60"], ["sh", "-c", "exit 3"]], 2)
    assert time.monotonic() - began < 30


def test_a_tool_that_cannot_be_run() -> None:
    with pytest.raises(EtcdGuardError, match="cannot run /no/such/tool: No such file") as error:
        run_commands([["/no/such/tool"]], 1)

    assert error.value.hint


def test_the_tool_ends_with_us(tmp_path: Path) -> None:
    """Nobody cleans up after SIGKILL, and the next run stages into the same directory."""
    pid_file = tmp_path / "pid"
    tool = ["sh", "-c", f"echo $$ >{tmp_path}/new; mv {tmp_path}/new {pid_file}; exec sleep 600"]
    script = f"from etcdguard.restore.commands import run_commands; run_commands([{tool!r}], 1)"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        eventually(pid_file.exists, "the tool runs")
        parent.kill()
    eventually(lambda: not alive(int(pid_file.read_text())), "it has ended")


def test_a_process_is_found_by_its_open_file(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("x")
    with (tmp_path / "db").open() as db, subprocess.Popen(["sleep", "60"], stdin=db) as process:
        try:
            db.close()
            assert LOCAL.holders(tmp_path) == (f"sleep (pid {process.pid})",)
        finally:
            process.kill()
