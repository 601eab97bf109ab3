"""A hostile megabyte costs its reader neither memory nor hours: each is read in a process with limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hostile_bolt import HOSTILE, SIZE


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_within_bounds(name: str) -> None:
    assert len(HOSTILE[name]()) == SIZE
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hostile_bolt", name],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["messages"]) == 2, "it was taken for a database"
