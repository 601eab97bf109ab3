"""The part of the storage campaign that every change is tested with: one combination of every fault."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.campaign.storage import COMMANDS, laboratory
from tests.support.http_faults import HttpFault
from tests.support.s3_servers import S3Server

SEED = 6
"""Which ones; change it together with nothing else, to look elsewhere."""


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_wrong_listed(tmp_path: Path, seaweedfs_server: S3Server) -> None:
    with laboratory(tmp_path, seaweedfs_server) as here:
        every = here.combinations()
        assert {one.command for one in every} == set(COMMANDS)
        assert {one.request for one in every} >= {"write manifest", "write part", "delete snapshot"}
        assert len(every) == len(set(every)) > 500
        rng = random.Random(SEED)
        faults = [
            fault for fault in HttpFault if fault not in (HttpFault.GARBAGE, HttpFault.REDIRECT)
        ]  # those two are in test_s3_faults.py
        for fault in faults:
            chosen = rng.choice([one for one in every if one.fault is fault])
            print(f"{chosen}: {here.perform(chosen)}")
