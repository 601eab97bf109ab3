"""``etcdguard check restore-readiness`` and plain ``check``, on a machine where members are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Done, Installation
from tests.support.etcd_versions import EtcdPrograms


@pytest.fixture
def here(tmp_path: Path, shared_cluster: LocalCluster) -> Installation:
    made = Installation.of(tmp_path / "here", shared_cluster)
    for name in shared_cluster.names:
        (tmp_path / name).mkdir()
    made.settings["members"] = [
        {
            "name": name,
            "peer_urls": [shared_cluster.peer_url(name)],
            "client_urls": [shared_cluster.client_url(name)],
            "data_dir": str(tmp_path / name),
        }
        for name in shared_cluster.names
    ]
    made.settings["restore"] = {"state_dir": str(tmp_path / "state")}
    made.save()
    return made


def ready(here: Installation, programs: EtcdPrograms, *flags: str, code: int = 0) -> dict[str, Any]:
    done = here.run("check", "restore-readiness", *flags, "-o", "json", code=code, PATH=search_path(programs))
    return lines_of(done)


def lines_of(done: Done) -> dict[str, Any]:
    return {line["name"].removeprefix("readiness."): line for line in done.document["checks"]}


def search_path(programs: EtcdPrograms) -> str:
    return f"{programs.search_path}:/usr/bin:/bin"


def bad(lines: Mapping[str, Any]) -> dict[str, str]:
    return {name: line["outcome"] for name, line in lines.items() if line["outcome"] != "OK"}


def test_what_a_restore_needs_is_looked_at(
    here: Installation, etcd_binaries: EtcdPrograms, tmp_path: Path
) -> None:
    assert bad(ready(here, etcd_binaries, code=10)) == {"backup": "FAIL"}

    here.backup()
    here.run("verify", "latest", "--level", "data")
    lines = ready(here, etcd_binaries)
    assert bad(lines) == {}
    (host,) = (line for name, line in lines.items() if name.startswith("host."))
    assert "stop etcd before a restore" in host["hint"]

    assert bad(lines_of(here.run("check", "restore-readiness", "-o", "json", code=64, PATH="/nowhere"))) == {
        "tool": "FAIL",
        "plan": "SKIP",
    }

    # The identity was moved away, as init asks for; the wrong one is no help.
    identity = here.identity_file.rename(tmp_path / "identity-elsewhere.txt")
    assert set(bad(ready(here, etcd_binaries, code=12))) == {"key", *host_names(lines)}
    del here.settings["encryption"]["identity_file"]
    here.save()
    assert bad(ready(here, etcd_binaries)) == {"key": "WARN"}
    assert bad(ready(here, etcd_binaries, "--identity", str(identity))) == {}
    stranger = Installation(tmp_path / "stranger").identity_file
    assert "key" in bad(ready(here, etcd_binaries, "--identity", str(stranger), code=12))

    place = Path(here.settings["members"][0]["data_dir"])
    place.rmdir()
    place.write_text("not a directory")
    here.settings["members"][0]["host"] = "127.0.0.1"
    here.save()
    lines = ready(here, etcd_binaries, "--identity", str(identity), code=15)
    assert bad(lines) == {"host.127.0.0.1": "FAIL"}
    assert "is not a directory" in lines["host.127.0.0.1"]["value"]


def host_names(lines: Mapping[str, Any]) -> list[str]:
    return [name for name in lines if name.startswith("host.")]


def test_plain_check_makes_them_all(here: Installation, etcd_binaries: EtcdPrograms) -> None:
    here.settings["checks"] = {"window": "100ms"}
    here.save()

    done = here.run("check", "-o", "json", code=None, PATH=search_path(etcd_binaries))

    rooms = {line["name"].partition(".")[0] for line in done.document["checks"]}
    assert rooms == {"cluster", "repository", "readiness"}
    assert done.document["outcome"] == "FAIL"  # there is no backup
    table = here.run("check", "restore-readiness", code=10, PATH=search_path(etcd_binaries)).out
    assert "FAIL  readiness.backup" in table
    assert here.run("check", "everything", code=64).problem
