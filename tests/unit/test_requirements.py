"""What is installed is what was tested."""

from __future__ import annotations

import re
from pathlib import Path

_FOLDER = Path(__file__).parents[2] / "requirements"
_PIN = re.compile(r"^(\S+==\S+)", re.MULTILINE)


def test_an_install_has_the_versions_of_the_tests() -> None:
    run, dev = (set(_PIN.findall((_FOLDER / name).read_text())) for name in ("run.txt", "dev.txt"))
    assert run
    assert not run - dev
