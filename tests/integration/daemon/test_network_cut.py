"""Daemons and a backup whose network is cut, in namespaces; the whole is ``tests.campaign.network``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.etcd_versions import EtcdPrograms

_ROOT = Path(__file__).parents[3]


@pytest.fixture
def namespaces() -> None:
    """A machine whose kernel refuses even root skips by name."""
    made = subprocess.run(["unshare", "--net", "true"], capture_output=True, text=True, check=False)
    if made.returncode:
        reason = f"no network namespace can be made here: {made.stderr.strip()}"
        if os.environ.get("ETCDGUARD_REQUIRE_ROOT"):
            pytest.fail(f"{reason}, and ETCDGUARD_REQUIRE_ROOT requires it")
        pytest.skip(reason)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("namespaces")
def test_cut_off_and_together_again(etcd_binaries: EtcdPrograms) -> None:
    del etcd_binaries  # there, or skipped by name
    part = ["--daemons=leads from members and S3", "--seconds=20", "--commands=backup-both", "--short"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign.network", *part],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "2 of 2: nothing lost" in done.stdout
