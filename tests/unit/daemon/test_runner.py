"""Commands as real processes: what they say, how they end, and that they do end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from etcdguard.daemon.runner import ChildRunner, Result, Running

TIMEOUT = 60.0


class Programs(ChildRunner):
    """Runs a Python program instead of etcdguard."""

    def _argv(self, argv: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", *argv]


def runner(**environment: str) -> Programs:
    return Programs([], {"PATH": os.environ["PATH"], **environment})


def ended(job: Running) -> Result:
    deadline = time.monotonic() + TIMEOUT
    while (result := job.poll()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return result


def test_the_document_and_the_complaint_are_kept_and_the_log_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    program = (
        "import sys; print('{\"outcome\": \"skipped\"}'); sys.stderr.write('a log line\\n');"
        "sys.stderr.write('error: it failed: badly\\nhint: look\\n'); sys.exit(5)"
    )
    result = ended(runner().start([program]))
    assert result == Result(5, {"outcome": "skipped"}, "it failed: badly", "look")
    assert capfd.readouterr().err == "a log line\n"


@pytest.mark.parametrize("printed", ["", "not json", "[1, 2]"])
def test_what_is_no_document_is_none(printed: str) -> None:
    assert ended(runner().start([f"print({printed!r})"])).document is None


def test_more_output_than_a_pipe_holds_blocks_nobody() -> None:
    program = "import sys, json; sys.stderr.write('x\\n' * 200000); print(json.dumps({'a': 'y' * 300000}))"
    document = ended(runner().start([program])).document
    assert document is not None
    assert len(document["a"]) == 300000


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_asked_to_end_and_says_how_it_ended(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = (
        "import pathlib, signal, sys, time;"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(130));"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    )
    job = runner().start([program])
    wait_for(ready)
    job.terminate()
    assert ended(job).code == 130


def test_what_does_not_listen_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = (
        "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(600)"
    )
    job = runner().start([program])
    wait_for(ready)
    job.terminate()
    assert job.poll() is None
    job.kill()
    assert ended(job).code == -9
    job.kill()  # of no consequence


def test_a_grandchild_that_keeps_the_log_open_does_not_hold_the_daemon_up() -> None:
    program = (
        "import subprocess, sys;"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print('{\"pid\": %d}' % child.pid)"
    )
    document = ended(runner().start([program])).document
    assert document is not None
    os.kill(int(document["pid"]), 9)  # which fails if it is not there any more


def test_it_sees_the_environment_it_is_given_and_no_other() -> None:
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    document = ended(runner(ETCDGUARD_PASSWORD="x").start([program])).document
    assert document is not None
    assert document["ETCDGUARD_PASSWORD"] == "x"
    assert "HOME" not in document
