"""``etcdguard node`` as an orchestrator meets it: lines of JSON in, an answer for each, whatever they say."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etcdguard import __version__
from etcdguard.restore.plan import plan_document
from etcdguard.restore.steps import StepAnswer, StepRequest, read_answer, request_bytes
from tests.unit.cli.running import MINIMAL, environment
from tests.unit.restore.golden_plan import plan as golden_plan

_ENDS_WITHIN = 60.0


@contextmanager
def node(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = tmp_path / "config.yaml"
    config.write_text(f"{MINIMAL}restore: {{state_dir: {tmp_path}/state}}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "etcdguard", "--config", str(config), "node"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[bytes], line: bytes) -> StepAnswer:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return read_answer(process.stdout.readline())


def request(step: str, **facts: Any) -> bytes:
    return request_bytes(StepRequest(**{"version": __version__, "step": step, **facts}))


def test_every_line_has_its_answer_until_nobody_asks_any_more(tmp_path: Path) -> None:
    with node(tmp_path) as process:
        hello = say(process, request("hello"))
        garbage = say(process, b"garbage\n")
        again = say(process, request("hello"))
        out, err = process.communicate(timeout=_ENDS_WITHIN)  # closes stdin

    assert (hello.ok, hello.version, again.ok) == (True, __version__, True)
    assert hello.facts["now"] <= again.facts["now"]
    assert garbage.error is not None
    assert (garbage.ok, garbage.error.exit_code) == (False, 15)
    assert (out, err, process.returncode) == (b"", b"", 0)


def test_a_step_looks_at_this_machine_and_changes_nothing(tmp_path: Path) -> None:
    """The host of a member of which nothing is here yet: what a preflight finds is in the answer."""
    plan = plan_document(golden_plan())
    with node(tmp_path) as process:
        status = say(process, request("status", plan=plan, members=("m3",)))
        refused = say(process, request("swap", plan=plan, members=("m3",)))
        process.communicate(timeout=_ENDS_WITHIN)

    assert status.ok, status.error
    assert status.facts["phase"] == "untouched"
    assert refused.error is not None
    assert refused.error.message == "nothing is staged here"
    assert process.returncode == 0


def test_a_line_without_end_is_not_collected(tmp_path: Path) -> None:
    """It is taken for the end of all requests: nothing this long was ever sent by an etcdguard."""
    with node(tmp_path) as process:
        assert process.stdin is not None
        assert say(process, request("hello")).ok
        process.stdin.write(b"x" * 4 * 1024 * 1024)
        process.stdin.flush()
        assert process.wait(_ENDS_WITHIN) == 0
