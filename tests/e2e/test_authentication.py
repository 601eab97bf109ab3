"""Where etcd's authentication is on: what the root role does, and what one with the lock alone may."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Installation
from tests.support.defrags import STEADY, fragment
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, Etcdctl, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.waiting import eventually

ROOT = Credentials("root", "correct:horse")
WATCHER = Credentials("watcher", "battery")
DENIED = "etcd denied permission"
_ABOUT_THE_USER = re.compile("auth|credentials|token|permission", re.IGNORECASE)


@pytest.fixture
def cluster(cluster_factory: ClusterFactory) -> LocalCluster:
    """Three fragmented members."""
    made = cluster_factory(extra_args=STEADY)
    with AdminClient(ConnectionOptions(made.client_urls, command_timeout=60)) as client:
        fragment(made, client)
    return made


def as_user(here: Installation, user: Credentials) -> None:
    """A password file, as people have it."""
    file = here.folder / "password"
    file.write_text(user.password + "\n")
    file.chmod(0o600)
    here.settings["cluster"] |= {"user": user.user, "password_file": str(file)}
    here.save()


def with_the_lock_alone(root: Etcdctl) -> None:
    """As docs/defrag.md says."""
    root.run("role", "add", "etcdguard-lock")
    root.run("role", "grant-permission", "etcdguard-lock", "readwrite", "--prefix", "/etcdguard/")
    root.run("user", "add", WATCHER.user, "--interactive=false", stdin=f"{WATCHER.password}\n")
    root.run("user", "grant-role", WATCHER.user, "etcdguard-lock")


def sizes(root: Etcdctl) -> list[int]:
    return [one["Status"]["dbSize"] for one in root.json("endpoint", "status")]


@each_etcd_version
def test_who_may_do_what(tmp_path: Path, etcd_binaries: EtcdPrograms, cluster: LocalCluster) -> None:
    root = enable_auth(etcd_binaries.etcdctl, cluster, ROOT)
    with_the_lock_alone(root)
    here = Installation.of(tmp_path / "here", cluster)
    here.settings["defrag"] = {"min_size": "1MiB", "min_free": "1MiB", "settle": "1s"}
    here.settings["checks"] = {"window": "100ms"}
    here.settings["backup"]["schedule"] = "1h"
    here.save()

    as_user(here, WATCHER)
    document = here.run("check", "cluster", "-o", "json", code=None).document
    lines = {line["name"].removeprefix("cluster."): line for line in document["checks"]}
    assert lines["quorum"]["outcome"] == "OK"
    for name in ("hash", "value_size", "prefix_share"):
        assert lines[name]["outcome"] == "SKIP"
        assert DENIED in lines[name]["value"]
    before = sizes(root)
    for command in (["backup"], ["backup", "--if-due"], ["defrag"]):
        error, hint = here.run(*command, "-q", code=2).problem
        assert DENIED in error
        assert "root role" in hint
    assert here.ids() == []
    assert sizes(root) == before
    # It had the lock, and gave it up.
    assert "/etcdguard/prod/lock/" not in root.run("get", "/etcdguard/", "--prefix", "--keys-only")

    as_user(here, Credentials(ROOT.user, "wrong"))
    error, hint = here.run("check", "cluster", code=2).problem
    assert "authentication" in error
    assert "password" in hint

    as_user(here, ROOT)
    document = here.run("check", "cluster", "-o", "json", code=None).document
    assert {line["name"]: line["outcome"] for line in document["checks"]}["cluster.hash"] == "OK"
    done = here.json("defrag")
    assert done["outcome"] == "done"
    assert [one["outcome"] for one in done["members"]] == ["done"] * 3
    assert max(sizes(root)) < min(before) / 4
    assert [one["verified_level"] for one in here.json("list")["backups"]] == ["data"]


def test_a_daemon_that_signs_in(tmp_path: Path, etcd_binaries: EtcdPrograms, cluster: LocalCluster) -> None:
    """Tokens end while it runs: etcd forgets all of them when a user is changed, and it signs in again."""
    root = enable_auth(etcd_binaries.etcdctl, cluster, ROOT)
    here = Installation.of(tmp_path / "here", cluster)
    here.settings["backup"]["schedule"] = "10s"
    here.save()
    as_user(here, ROOT)

    def backups() -> int:
        return len(list(here.repository.glob("prod/backups/*/manifest.json")))

    with here.start("daemon", "--log-format=json") as daemon:
        try:
            eventually(lambda: backups() >= 1, "the first backup")
            root.run("user", "add", "another", "--interactive=false", stdin="x\n")
            known = backups()
            eventually(lambda: backups() >= known + 2, "backups go on")
        finally:
            daemon.terminate()
            _, log = daemon.communicate(timeout=120)
    assert "daemon.leading" in log
    assert ROOT.password not in log
    # A machine that stands still may rightly cost it the lock; a token that has ended may not.
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    failed = [one["error"] for one in events if one["event"] == "lock.renewal_failed"]
    assert not [error for error in failed if _ABOUT_THE_USER.search(error)]
