"""The frame as a process: start-up, signals, pipes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etcdguard import __version__

_HEAVY = {"boto3", "botocore", "grpc", "cryptography", "pydantic", "structlog", "rich", "yaml", "etcd3"}
_COMMAND = [sys.executable, "-m", "etcdguard"]
_START_LIMIT = 0.25


def _environment() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("ETCDGUARD_", "ETCDCTL_"))
    }


def _etcdguard(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *map(str, args)], capture_output=True, text=True, env=_environment(), check=False
    )


def test_version() -> None:
    done = _etcdguard("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"etcdguard {__version__}\n", "")


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["config", "show", "--help"], ["init", "--help"]]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from etcdguard.cli.main import run\n"
        f"code = run({args!r}, {{}})\n"
        "print(code, *{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    returned, *modules = done.stderr.split()
    assert returned == "0"
    assert _HEAVY & set(modules) == set()
    assert "click" in modules


def test_rich_is_loaded_only_to_draw_on_a_terminal(tmp_path: Path) -> None:
    """Not for the log, nor for what runs under a timer: it would be a fifth of the start of ``list``."""
    here = ["--config", str(tmp_path / "config.yaml")]
    _etcdguard("init", *here, "--cluster-name", "prod", "--repository", tmp_path / "repository")
    code = (
        "import sys; from etcdguard.cli.main import run\n"
        f"code = run({['verify', 'latest', *here]!r}, {{}})\n"
        "assert 'structlog' in sys.modules and 'rich' not in sys.modules, code\n"
        "import rich.console"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_start_up_is_quick(flag: str) -> None:
    """In seconds of CPU: what the machine's other work cannot add to, and a wall clock would never beat."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert _etcdguard(flag).returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(seconds() for _ in range(7)) < _START_LIMIT


_WAITS = """
import sys, time, click
from etcdguard.cli import main as frame
from etcdguard.cli.lazy import Command, LazyGroup

@click.command("wait", cls=Command)
def wait():
    print("waiting", flush=True)
    time.sleep(60)

LazyGroup.get_command = lambda *_: wait
sys.argv = ["etcdguard", "wait"]
frame.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_130(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WAITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    error, hint = err.splitlines()
    assert error == "error: interrupted"
    assert hint.startswith("hint: ")


_CAUGHT_INSIDE_EXEC = """
from etcdguard.cli import main as frame

def run(args, env):
    try:
        exec("raise KeyboardInterrupt")  # as when Ctrl-C meets a dataclass being made
    except KeyboardInterrupt:
        return 130

frame.run = run
frame.main()
"""


def test_a_signal_inside_an_executed_string_is_130_too(tmp_path: Path) -> None:
    """CPython would have ``python -m`` die of SIGINT, also when the exception was caught."""
    (tmp_path / "caught.py").write_text(_CAUGHT_INSIDE_EXEC)
    done = subprocess.run([sys.executable, "-m", "caught"], cwd=tmp_path, env=_environment(), check=False)
    assert done.returncode == 130


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("args", [["--help"], ["config", "show"]])
def test_a_reader_that_goes_away_is_no_news(args: list[str], unbuffered: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("cluster: {name: prod}\nencryption: {disabled: true}\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*_COMMAND, "--config", str(config), *args],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=_environment() | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_behind_stdout(unbuffered: str, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*_COMMAND, "init", "--config", str(tmp_path / "config.yaml")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=_environment() | {"PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == "error: cannot write the report to stdout: No space left on device"
    assert "work is done" in hint


def test_logs_go_to_stderr_and_data_to_stdout(tmp_path: Path) -> None:
    done = _etcdguard("init", "--config", tmp_path / "config.yaml", "-v")
    assert done.returncode == 0
    assert "identity.txt" in done.stdout
    assert all(line.startswith("{") for line in done.stderr.splitlines())


def test_an_error_of_a_process_is_two_lines(tmp_path: Path) -> None:
    done = _etcdguard("config", "validate", "--config", tmp_path / "none.yaml")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}/none.yaml: no such configuration file",
        "hint: run `etcdguard init` to make one, or name it with --config",
    ]
