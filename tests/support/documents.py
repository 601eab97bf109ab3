"""The fenced blocks of the documents in ``docs``, for tests that run them as they stand."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCS", "Block", "fenced", "sections"]

DOCS = Path(__file__).parents[2] / "docs"

_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^## (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """What stands between two fences; ``language`` is the word behind the first."""

    language: str
    content: str


def fenced(document: str, language: str) -> list[str]:
    """The content of every block of that language, in order; ``document`` is a file's name in ``docs``."""
    return [block.content for block in _blocks((DOCS / document).read_text()) if block.language == language]


def sections(document: str) -> dict[str, list[Block]]:
    """The blocks below each heading of the second level that has any, in order."""
    _, *rest = _HEADING.split((DOCS / document).read_text())
    found = {title: _blocks(text) for title, text in zip(rest[::2], rest[1::2], strict=True)}
    return {title: blocks for title, blocks in found.items() if blocks}


def _blocks(text: str) -> list[Block]:
    return [Block(language, content) for language, content in _FENCED.findall(text)]
