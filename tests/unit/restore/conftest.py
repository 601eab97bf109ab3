"""Fixtures of the restore's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.restore.fleet import Fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path)
