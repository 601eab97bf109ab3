"""Clocks that jump between and during backups and before a prune; more by ``tests.campaign.clock``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.clock_hands import JUMPS, HandWorld
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.s3_servers import S3Server


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_clocks_that_jump(
    tmp_path: Path, cluster_factory: ClusterFactory, seaweedfs_server: S3Server
) -> None:
    world = HandWorld(tmp_path, cluster_factory(names=("etcd-1",)), seaweedfs_server)

    said = world.perform("between two backups", "S3", JUMPS["a year ahead"])
    assert said == "exit code 10, then shipped", "S3 refuses requests of another time"
    assert world.perform("during a backup", "folder", JUMPS["a year behind"]) == "done"
    assert world.perform("before a prune", "S3", JUMPS["an hour ahead"]).endswith("nothing removed")
