"""SIGKILL a prune: what is listed is whole, what must stay stays, another node's too, the next ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.prune import Report, kill_prunes
from tests.support.s3_servers import S3Server

KILLS = 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_prunes_that_are_killed(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    """More of them by ``python -m tests.campaign.prune --kills N --seed S``."""
    report = Report()
    kill_prunes(tmp_path, seaweedfs_server, KILLS, 5, report)
    killed = sum(report.killed.values())
    assert killed + report.ended == KILLS
    assert killed > KILLS // 3
    assert any(moment.startswith("DELETE") for moment in report.killed)
