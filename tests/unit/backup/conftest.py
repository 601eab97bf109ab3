"""Fixtures: a node, and a store for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.storage.memory import MemoryStore
from tests.support.backups import Node


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A machine with an empty spool."""
    return Node(tmp_path / "spool")


@pytest.fixture
def store() -> MemoryStore:
    """An empty repository."""
    return MemoryStore("one")
