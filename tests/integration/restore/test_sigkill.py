"""SIGKILL a real restore: old directories stay, the plan goes on or back; see ``tests.campaign.restores``."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaign.restores import Machine
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_etcd import ClusterFactory

KILLS = 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_restores_that_are_killed(
    tmp_path: Path, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    machine = Machine(tmp_path, cluster_factory(), etcd_binaries)
    moments = random.Random(3)
    print([machine.kill(moments) for _ in range(KILLS)])
