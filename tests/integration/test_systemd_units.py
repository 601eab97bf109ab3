"""The units as systemd itself reads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from etcdguard.config.credentials import CREDENTIALS
from etcdguard.config.document import dotted
from tests.support.commands import command_path

_UNITS = Path(__file__).parents[2] / "systemd"
_NAMES = sorted(path.name for path in _UNITS.iterdir() if path.is_file())
_SERVICES = [name for name in _NAMES if name.endswith(".service")]
_PROGRAM = "/usr/bin/etcdguard"


def _settings(name: str, key: str) -> list[str]:
    lines = (_UNITS / name).read_text().splitlines()
    return [value for setting, _, value in (line.partition("=") for line in lines) if setting == key]


@pytest.mark.parametrize("name", _NAMES)
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    for each in _NAMES:
        # The program need not be installed where the tests run.
        (tmp_path / each).write_text((_UNITS / each).read_text().replace(_PROGRAM, "/bin/true"))
    done = subprocess.run(
        [command_path("systemd-analyze"), "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "etcdguard" in line]
    assert (done.returncode, complaints) == (0, [])


@pytest.mark.parametrize("name", _SERVICES)
def test_an_exposure_of_at_most_2(name: str) -> None:
    analyze = [command_path("systemd-analyze"), "security", "--offline=yes", "--threshold=20"]
    done = subprocess.run([*analyze, str(_UNITS / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


@pytest.mark.parametrize("name", _SERVICES)
def test_it_runs_a_command_that_there_is(name: str) -> None:
    (command,) = _settings(name, "ExecStart")
    program, *arguments = command.split()
    assert program == _PROGRAM
    # An option that it does not know is an error before the help is shown.
    argv = [sys.executable, "-m", "etcdguard", *arguments, "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", _SERVICES)
def test_no_credential_must_be_there(name: str) -> None:
    loaded = dict(value.split(":", 1) for value in _settings(name, "LoadCredential"))
    blank = [value.removesuffix(r":\n") for value in _settings(name, "SetCredential")]
    assert blank == list(loaded)
    assert set(loaded) <= {*map(dotted, CREDENTIALS), "aws"}
    assert all(path == f"/etc/etcdguard/credentials/{key}" for key, path in loaded.items())


def test_only_what_verifies_is_given_the_identity() -> None:
    given = {name for name in _SERVICES if "encryption.identity_file" in (_UNITS / name).read_text()}
    assert given == {"etcdguard.service", "etcdguard-verify.service"}


def test_all_are_confined_alike() -> None:
    texts = [(_UNITS / name).read_text() for name in _SERVICES]
    confined = {text[text.index("\nCapabilityBoundingSet=") :].partition("\n\n")[0].strip() for text in texts}
    assert len(confined) == 1
