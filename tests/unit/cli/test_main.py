"""The frame: errors become two lines and an exit code, whatever raised them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from etcdguard import errors
from etcdguard.cli import main as frame
from etcdguard.cli.lazy import Command, Entry, LazyGroup

from .running import run

_DOCS = Path(__file__).parents[3] / "docs" / "exit-codes.md"


def _error_classes() -> list[type[errors.EtcdGuardError]]:
    return [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Make the command ``fail`` raise what it is given."""

    def install(exception: BaseException) -> None:
        @click.command("fail", cls=Command)
        def fail() -> None:
            raise exception

        monkeypatch.setattr(LazyGroup, "get_command", lambda *_: fail)

    return install


def _two_lines(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    out, err = capsys.readouterr()
    assert out == ""
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


@pytest.mark.parametrize("kind", _error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_has_its_code_and_two_lines(
    kind: type[errors.EtcdGuardError],
    raising: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(kind("it broke\nbadly", hint="mend it"))
    assert run("fail") == kind.exit_code
    assert _two_lines(capsys) == ("it broke badly", "mend it")


def test_the_documented_codes_are_those_of_the_error_tree() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", _DOCS.read_text(), flags=re.MULTILINE)
    documented = {name: int(code) for code, names in rows for name in re.findall(r"`(\w+)`", names)}
    assert documented == {kind.__name__: kind.exit_code for kind in _error_classes()}


def test_the_codes_are_the_promised_ones() -> None:
    assert {kind.exit_code for kind in _error_classes()} == {1, 2, 3, 5, 10, 11, 12, 13, 14, 15, 64, 130}


@pytest.mark.parametrize("exception", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption(
    exception: BaseException,
    raising: Callable[[BaseException], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(exception)
    assert run("fail") == 130
    assert _two_lines(capsys)[0] == "interrupted"


def test_an_error_cannot_steer_the_terminal(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(errors.RepositoryError("the store said \x1b[2J\x9b \ud800", hint="b\x08"))
    assert run("fail") == 10
    assert _two_lines(capsys) == ("the store said ?[2J? ?", "b?")


def test_an_unexpected_exception_is_internal(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(ZeroDivisionError("by\nzero"))
    assert run("fail") == 1
    error, hint = _two_lines(capsys)
    assert error == "internal: ZeroDivisionError: by zero"
    assert "--debug" in hint


def test_a_broken_pipe_that_is_not_stdout_is_internal(
    raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(BrokenPipeError("a tool went away"))
    assert run("fail") == 1
    assert _two_lines(capsys)[0] == "internal: BrokenPipeError: a tool went away"


@pytest.mark.parametrize("args", [("--debug", "fail"), ("fail", "--debug")])
def test_a_traceback_only_with_debug(
    args: tuple[str, ...], raising: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    raising(errors.Locked("held", hint="wait"))
    assert run(*args) == 11
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-2:] == ["error: held", "hint: wait"]


def test_debug_from_the_environment(
    raising: Callable[[BaseException], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(errors.Locked("held", hint="wait"))
    monkeypatch.setenv("ETCDGUARD_DEBUG", "1")
    assert run("fail") == 11
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "error", "hint"),
    [
        ((), "missing command", "see `etcdguard --help`"),
        (("confg",), "unknown command 'confg'", "did you mean config?"),
        (("xyzzy",), "unknown command 'xyzzy'", "see `etcdguard --help`"),
        (("config", "shw"), "unknown command 'shw'", "did you mean show?"),
        (("config", "show", "--outptu"), "no such option '--outptu'", "did you mean --output?"),
        (("config", "show", "extra"), "unexpected extra argument", "see `etcdguard config show --help`"),
        (("config", "show", "-o", "xml"), "'xml' is not one of", "see `etcdguard config show --help`"),
        (("--log-format", "xml", "init"), "'xml' is not one of", "see `etcdguard --help`"),
        (("--nope", "config"), "no such option '--nope'", "see `etcdguard --help`"),
        (("config", "show", "--user", "root:pw"), "--user takes the name alone", "ETCDGUARD_PASSWORD"),
    ],
)
def test_usage_errors(
    args: tuple[str, ...], error: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*args) == 64
    found = _two_lines(capsys)
    assert error in found[0]
    assert hint in found[1]
    assert "root:pw" not in " ".join(found)


def test_the_table_of_commands_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out, err = capsys.readouterr()
    assert err == ""
    for name, entry in frame.COMMANDS.items():
        found = re.search(rf"^  {name} +{re.escape(entry.help[:20])}", out, flags=re.MULTILINE)
        assert (found is None) == entry.hidden


def test_the_table_points_to_commands() -> None:
    assert all(isinstance(entry, Entry) for entry in frame.COMMANDS.values())
