"""What the documents name is there: targets, modules, files, and each other."""

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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for path, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]+)(?:#([^)]*))?\)", document.read_text()):
        target = document.parent / path
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_tests_are_there(document: Path) -> None:
    pattern = r"`((?:tests|etcdguard|systemd|config|docs)/[\w./*-]+\.\w+)(?:::(\w+))?`"
    for path, test in re.findall(pattern, document.read_text()):
        found = list(ROOT.glob(path))
        assert found, path
        there = not test or re.search(rf"^def {test}\(", found[0].read_text(), re.MULTILINE)
        assert there, f"{path}::{test}"


def anchors(document: Path) -> set[str]:
    """As the forges make them of headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
