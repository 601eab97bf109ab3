"""Every claim of docs/security.md names tests; test_documents.py sees that they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text()
CLAIMS = [
    tuple(cell.strip() for cell in line.strip("|").split("|"))
    for line in DOCUMENT.split("## Reading")[1].splitlines()
    if line.startswith("| ") and not line.startswith("| Claim")
]


def test_there_are_claims() -> None:
    assert len(CLAIMS) >= 25


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim[0][:40])
def test_every_claim_names_tests(claim: tuple[str, ...]) -> None:
    what, tried = claim
    assert what
    assert re.fullmatch(r"`tests/[^`]+`(, `tests/[^`]+`)*", tried), tried
