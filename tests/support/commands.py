"""Stock programs that tests use: age, zstd, openssl, a browser, Prometheus' test tool."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["REQUIRE_VARIABLE", "command_path"]

REQUIRE_VARIABLE = "ETCDGUARD_REQUIRE_TOOLS"


def command_path(name: str, *, package: str | None = None) -> str:
    """Where the program is; a missing one skips the test by name, or fails it where it is required."""
    found = shutil.which(name)
    if found is None:
        reason = f"the `{name}` command is not installed (Debian package {package or name})"
        if name in os.environ.get(REQUIRE_VARIABLE, "").split(","):
            pytest.fail(f"{reason}, and {REQUIRE_VARIABLE} requires it")
        pytest.skip(reason)
    return found
