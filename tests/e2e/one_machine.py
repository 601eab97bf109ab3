"""A machine with a whole cluster on it, which is driven by the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from etcdguard.etcd.local import LocalCluster
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.load import History, write_history
from tests.support.restores import wait_applied


@dataclass
class Site:
    """One machine with a whole cluster on it, its configuration, and one backup in a local repository."""

    folder: Path
    cluster: LocalCluster
    programs: EtcdPrograms
    history: History

    def __call__(
        self, *args: str | Path, stdin: int = subprocess.DEVNULL
    ) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ETCDGUARD_", "ETCDCTL_"))
        }
        return subprocess.run(
            [
                sys.executable,
                "-m",
                "etcdguard",
                "--config",
                str(self.folder / "config.yaml"),
                *map(str, args),
            ],
            env=inherited | {"PATH": self.programs.search_path},
            cwd=self.folder,
            stdin=stdin,
            capture_output=True,
            text=True,
            check=False,
        )

    def good(self, *args: str | Path) -> str:
        done = self(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def data_dirs(self) -> list[str]:
        return [f"--data-dir={name}={self.cluster.data_dir(name)}" for name in self.cluster.names]

    @property
    def data_files(self) -> set[Path]:
        return {path for path in self.cluster.base.rglob("*") if path.name != "etcd.log"}

    def snapshot(self) -> Path:
        """The newest backup, downloaded."""
        self.good("download", "latest", "-o", "snapshot.db")
        return self.folder / "snapshot.db"

    def only(self, pattern: str) -> Path:
        (found,) = self.folder.glob(pattern)
        return found


def backed_up(folder: Path, cluster: LocalCluster, programs: EtcdPrograms) -> Site:
    """Fill the cluster, configure, and take the one backup."""
    site = Site(folder, cluster, programs, write_history(cluster))
    wait_applied(Etcdctl(programs.etcdctl, cluster), site.history.revision)
    site.good("init", "--cluster-name=prod", f"--endpoints={','.join(cluster.client_urls)}")
    site.good("backup")
    return site
