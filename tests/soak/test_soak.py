"""The soak for a minute and a bit; ten minutes of it are `make soak`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.soak.fleet import Fleet, narrate
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.s3_servers import S3Server


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_minute_of_trouble(
    tmp_path: Path, cluster_factory: ClusterFactory, seaweedfs_server: S3Server
) -> None:
    with Fleet(tmp_path, cluster_factory(), seaweedfs_server, 15) as fleet:
        fleet.disturb(random.Random(4), 75, narrate)
        found = fleet.verdict()
    assert found.problems == ()
    assert found.backups > 0
