"""The units as systemd itself reads them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.commands import command_path

_UNITS = Path(__file__).parents[2] / "systemd"


@pytest.mark.parametrize("name", sorted(path.name for path in _UNITS.iterdir()))
def test_systemd_finds_nothing_wrong(name: str, tmp_path: Path) -> None:
    for path in _UNITS.iterdir():
        # The program need not be installed where the tests run.
        (tmp_path / path.name).write_text(path.read_text().replace("/usr/bin/etcdguard", "/bin/true"))
    done = subprocess.run(
        [command_path("systemd-analyze"), "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "etcdguard" in line]
    assert (done.returncode, complaints) == (0, [])


def test_the_service_is_confined() -> None:
    done = subprocess.run(
        [
            command_path("systemd-analyze"),
            "security",
            "--offline=yes",
            "--threshold=25",
            str(_UNITS / "etcdguard-backup.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr
