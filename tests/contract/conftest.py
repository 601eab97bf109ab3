"""Fixtures: an empty store of each kind."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.file import FileStore
from etcdguard.storage.memory import MemoryStore
from etcdguard.storage.retry import RetryingStore
from etcdguard.storage.s3 import S3Store
from tests.support.backups import START
from tests.support.s3_servers import S3Server, make_bucket


@pytest.fixture(scope="session")
def buckets() -> Callable[[S3Server], str]:
    """One bucket a server; tests keep apart by prefix, which is quicker and tests prefixes too."""
    made: dict[str, str] = {}

    def bucket(server: S3Server) -> str:
        if server.name not in made:
            made[server.name] = make_bucket(server)
        return made[server.name]

    return bucket


@pytest.fixture(params=["memory", "file", "s3-seaweedfs", "s3-second", "retrying"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, buckets: Callable[[S3Server], str]
) -> RepositoryStore:
    """An empty store of each kind."""
    if request.param == "memory":
        return MemoryStore("memory", now=lambda: START)
    if request.param == "retrying":
        return RetryingStore(MemoryStore("memory", now=lambda: START))
    if request.param == "file":
        return FileStore.create("file", tmp_path / "repository")
    fixture = "seaweedfs_server" if request.param == "s3-seaweedfs" else "second_s3_server"
    server: S3Server = request.getfixturevalue(fixture)
    prefix = f"contract/{secrets.token_hex(4)}"
    return S3Store(server.options(buckets(server), prefix), session=server.session())
