"""Errors of the disk under commands and the real etcdutl; more by ``python -m tests.campaign.disks``."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.campaign.disks import COMMANDS, Laboratory, concerned
from tests.support.disk_errors import Trouble
from tests.support.etcd_versions import EtcdPrograms
from tests.support.fixtures_etcd import ClusterFactory

_COMMANDS = {command.name: command for command in COMMANDS}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_restore_init_and_download(
    tmp_path: Path, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms
) -> None:
    cluster = cluster_factory(names=("etcd-1",))
    here = Laboratory(tmp_path, cluster, etcd_binaries.search_path)

    def at(name: str, kind: str, error: int) -> str:
        """The first such call fails, and where it is want of space also what follows."""
        command = _COMMANDS[name]
        calls = concerned(here.calls(command), error)
        nth = next(number for number, call in enumerate(calls) if kind in call)
        return here.perform(command, Trouble(nth, error, stays=error == errno.ENOSPC))

    assert at("init", "write out", errno.EIO) == "exit code 1"
    assert at("download", "write", errno.ENOSPC) == "exit code 1"
    assert at("restore", "snap/db", errno.EIO) == "exit code 1"
    assert at("restore", "write restore/", errno.ENOSPC) == "exit code 1"
