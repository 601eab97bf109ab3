"""SIGKILL a real backup at fifty moments: what is listed can be restored, what was whole is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.campaign.kills import DATABASE_BYTES, killed_backups
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import fill
from tests.support.s3_servers import S3Server


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills(tmp_path: Path, cluster_factory: ClusterFactory, seaweedfs_server: S3Server) -> None:
    cluster = cluster_factory(names=("etcd-1",))
    fill(cluster, DATABASE_BYTES)
    print(killed_backups(tmp_path, cluster, seaweedfs_server, kills=50, seed=50))
