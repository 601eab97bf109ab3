"""Fixtures: one of each S3 server for a test session (and worker), a new bucket for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.s3_servers import S3Server, make_bucket, seaweedfs, second_s3

__all__ = ["s3_bucket", "s3_server", "seaweedfs_server", "second_s3_server"]


@pytest.fixture(scope="session")
def seaweedfs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running SeaweedFS."""
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def second_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server that is not SeaweedFS."""
    with second_s3(tmp_path_factory.mktemp("second-s3")) as server:
        yield server


@pytest.fixture(scope="session", params=["seaweedfs", "second"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each server in turn."""
    name = "seaweedfs_server" if request.param == "seaweedfs" else "second_s3_server"
    server: S3Server = request.getfixturevalue(name)
    return server


@pytest.fixture
def s3_bucket(s3_server: S3Server) -> str:
    """A new bucket on ``s3_server``."""
    return make_bucket(s3_server)
