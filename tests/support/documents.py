"""The fenced blocks of the documents in ``docs``, for tests that run them as they stand."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DOCS", "fenced"]

DOCS = Path(__file__).parents[2] / "docs"

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(document: str, language: str) -> list[str]:
    """The content of every block of that language, in order; ``document`` is a file's name in ``docs``."""
    found = _FENCED.findall((DOCS / document).read_text())
    return [content for kind, content in found if kind == language]
