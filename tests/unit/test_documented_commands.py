"""What the documents tell a developer to run is there to be run."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md"))
MAKEFILE = (ROOT / "Makefile").read_text()


def named(pattern: str) -> dict[str, str]:
    """What matches in code, each with a document that says it."""
    found = {}
    for document in DOCUMENTS:
        for match in re.finditer(rf"(?:`|^    ){pattern}", document.read_text(), re.MULTILINE):
            found[match[1]] = document.name
    return found


def test_documents_were_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "benchmarks.md"} <= {document.name for document in DOCUMENTS}
    assert {"demo", "test"} <= named("make ([a-z-]+)").keys()


@pytest.mark.parametrize("target", sorted(named("make ([a-z-]+)")))
def test_a_target_is_in_the_makefile(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), named("make ([a-z-]+)")[target]


@pytest.mark.parametrize("module", sorted(named(r"python -m (tests[\w.]+)")))
def test_a_module_is_there(module: str) -> None:
    assert find_spec(module) is not None, named(r"python -m (tests[\w.]+)")[module]
