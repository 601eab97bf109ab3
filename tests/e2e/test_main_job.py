"""The main job on real input: init, backup, list, show, verify, download; and repositories that are down."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Installation, credentials, downloads, s3_repository
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Etcdctl
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import write_history
from tests.support.s3_servers import S3Server, make_bucket

_ID = re.compile(r"\d{8}T\d{6}Z-r(\d{20})-[0-9a-f]{8}")


def test_from_init_to_a_snapshot_file(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory
) -> None:
    cluster = cluster_factory()
    history = write_history(cluster)
    here = Installation(tmp_path / "here", "--endpoints", ",".join(cluster.client_urls))

    created = here.json("backup")
    backup = created["backup"]
    match = _ID.fullmatch(backup["id"])
    assert match is not None
    revision = backup["revision"]
    assert int(match[1]) == revision >= history.revision  # taking the lock is a write
    stored = (here.stored(backup["id"]) / "snapshot.db.zst.age").stat().st_size
    facts = {
        "id": backup["id"],
        "revision": revision,
        "cluster_id": backup["cluster_id"],
        "db_bytes": backup["db_bytes"],
        "stored_bytes": stored,
    }
    assert created == {
        "schema_version": 1,
        "outcome": "created",
        "backup": {**facts, "sha256": backup["sha256"], "duration_seconds": backup["duration_seconds"]},
        "repositories": [{"name": "main", "outcome": "stored"}],
    }
    header = Etcdctl(etcd_binaries.etcdctl, cluster).json("get", "no-such-key")["header"]
    assert int(backup["cluster_id"], 16) == header["cluster_id"]
    assert backup["duration_seconds"] > 0

    (listed,) = here.json("list")["backups"]
    expected = {
        **facts,
        "created_at": listed["created_at"],
        "total_keys": listed["total_keys"],
        "signed": True,
        "held": False,
    }
    never = dict.fromkeys(("verified_level", "verified_at", "failed_level", "failed_at"))
    assert here.json("list") == {"schema_version": 1, "backups": [{**expected, **never}]}

    shown = here.json("show", "latest")
    assert shown["signature"] == "valid"
    assert shown["manifest"]["snapshot"]["total_keys"] == listed["total_keys"] > 0
    assert shown["manifest"]["snapshot"]["sha256"] == backup["sha256"]
    assert shown["manifest"]["snapshot"]["compact_revision"] == history.compacted_at

    for level in ("manifest", "data"):
        result = {"id": backup["id"], "level": level, "outcome": "ok", "problems": []}
        assert here.json("verify", "--level", level) == {"schema_version": 1, "results": [result]}
        (listed,) = here.json("list")["backups"]
        verified = {**never, "verified_level": level, "verified_at": listed["verified_at"]}
        assert listed == {**expected, **verified}
        assert listed["verified_at"] >= listed["created_at"]
    for reference in ("latest", backup["id"]):
        assert here.json("show", reference)["backup"] == {**expected, **verified}

    target = tmp_path / "snapshot.db"
    here.run("download", "latest", "-o", target)
    snapshot = target.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600
    database, trailer = snapshot[:-32], snapshot[-32:]
    assert (len(database), trailer.hex()) == (backup["db_bytes"], backup["sha256"])
    assert hashlib.sha256(database).hexdigest() == backup["sha256"]
    assert [path for path in here.spool.iterdir() if path.is_dir()] == []


def test_tables_are_the_default_and_yaml_says_the_same(tmp_path: Path, shared_cluster: LocalCluster) -> None:
    import yaml

    here = Installation.of(tmp_path / "here", shared_cluster)
    backup_id = here.run("backup").out.split()[1]
    assert [backup_id] == here.ids()
    assert backup_id in here.run("list").out
    assert backup_id in here.run("show", "latest").out
    assert backup_id in here.run("verify").out
    assert yaml.safe_load(here.run("list", "-o", "yaml").out)["backups"][0]["id"] == backup_id


@pytest.fixture
def two_places(tmp_path: Path, shared_cluster: LocalCluster, seaweedfs_server: S3Server) -> Installation:
    """A file repository, ``main``, and a bucket, ``offsite``."""
    here = Installation.of(tmp_path / "here", shared_cluster, variables=credentials(seaweedfs_server))
    bucket = make_bucket(seaweedfs_server)
    here.settings["repositories"].append(s3_repository(seaweedfs_server, bucket))
    here.save()
    return here


def _bucket(here: Installation) -> str:
    bucket: str = here.settings["repositories"][1]["s3"]["bucket"]
    return bucket


def _outcomes(document: Any) -> dict[str, str]:
    return {one["name"]: one["outcome"] for one in document["repositories"]}


def _assert_same_everywhere(here: Installation, server: S3Server, ids: list[str]) -> None:
    assert here.ids("--repository", "main") == ids
    assert here.ids("--repository", "offsite") == ids
    remote = downloads(server, _bucket(here))
    for backup_id in ids:
        for name in ("manifest.json", "manifest.json.sig", "snapshot.db.zst.age"):
            assert (
                remote[f"etcd/prod/backups/{backup_id}/{name}"]
                == (here.stored(backup_id) / name).read_bytes()
            )
    for name in ("main", "offsite"):
        results = here.json("verify", "--all", "--repository", name)["results"]
        assert [(one["id"], one["outcome"]) for one in results] == [(backup_id, "ok") for backup_id in ids]


@pytest.mark.parametrize("down", ["main", "offsite"])
def test_a_repository_that_is_down_gets_the_backup_from_the_spool(
    two_places: Installation, seaweedfs_server: S3Server, down: str
) -> None:
    here = two_places
    away = here.folder / "unmounted"
    bucket = _bucket(here)
    if down == "main":
        here.repository.rename(away)
    else:
        seaweedfs_server.client().delete_bucket(Bucket=bucket)
    done = here.run("backup", "-o", "json", code=3)
    error, hint = done.problem
    assert down in error
    assert "next run" in hint
    assert done.document["outcome"] == "created"
    up = "offsite" if down == "main" else "main"
    assert _outcomes(done.document) == {up: "stored", down: "failed"}
    first = done.document["backup"]["id"]
    assert here.ids("--repository", up) == [first]
    assert here.ids() == [first], "reading goes to the repository that answers"

    if down == "main":
        away.rename(here.repository)
    else:
        seaweedfs_server.client().create_bucket(Bucket=bucket)
    assert here.ids("--repository", down) == []
    document = here.json("backup")
    assert _outcomes(document) == {"main": "stored", "offsite": "stored"}
    _assert_same_everywhere(here, seaweedfs_server, [first, document["backup"]["id"]])
    assert [path for path in here.spool.iterdir() if path.is_dir()] == []


def test_nothing_is_lost_when_every_repository_is_down(
    two_places: Installation, seaweedfs_server: S3Server
) -> None:
    here = two_places
    away = here.folder / "unmounted"
    here.repository.rename(away)
    seaweedfs_server.client().delete_bucket(Bucket=_bucket(here))
    done = here.run("backup", "-o", "json", code=10)
    error, hint = done.problem
    assert "main" in error
    assert "offsite" in error
    assert "spool" in hint
    (entry,) = (path for path in here.spool.iterdir() if path.is_dir())
    assert (entry / "snapshot.bin").stat().st_size > 0

    away.rename(here.repository)
    seaweedfs_server.client().create_bucket(Bucket=_bucket(here))
    document = here.json("backup")
    ids = here.ids()
    assert len(ids) == 2
    assert ids[1] == document["backup"]["id"]
    _assert_same_everywhere(here, seaweedfs_server, ids)
    assert [path for path in here.spool.iterdir() if path.is_dir()] == []


def test_a_timer_ships_what_waits_though_its_slot_is_done(
    tmp_path: Path, shared_cluster: LocalCluster
) -> None:
    here = Installation.of(tmp_path / "here", shared_cluster)
    here.settings["backup"] = {**here.settings.get("backup", {}), "schedule": "366d"}
    here.save()
    away = tmp_path / "away"
    here.repository.rename(away)
    here.run("backup", "--if-due", code=10)
    away.rename(here.repository)
    assert here.json("list")["backups"] == []

    assert here.json("backup", "--if-due")["outcome"] == "skipped"
    assert len(here.json("list")["backups"]) == 1
    assert here.json("backup", "--if-due")["outcome"] == "skipped"
    assert len(here.json("list")["backups"]) == 1


def test_a_bucket_on_each_server(
    tmp_path: Path, shared_cluster: LocalCluster, s3_server: S3Server, s3_bucket: str
) -> None:
    here = Installation.of(tmp_path / "here", shared_cluster, variables=credentials(s3_server))
    here.settings["repositories"] = [s3_repository(s3_server, s3_bucket)]
    here.save()
    backup_id = here.backup()
    (result,) = here.json("verify")["results"]
    assert (result["id"], result["outcome"]) == (backup_id, "ok")
    here.run("download", backup_id, "-o", tmp_path / "snapshot.db")
    assert [key for key in downloads(s3_server, s3_bucket) if not key.startswith("etcd/prod/")] == []


def test_the_storage_class_asked_for(
    tmp_path: Path, shared_cluster: LocalCluster, seaweedfs_server: S3Server
) -> None:
    bucket = make_bucket(seaweedfs_server)
    here = Installation.of(tmp_path / "here", shared_cluster, variables=credentials(seaweedfs_server))
    here.settings["repositories"] = [s3_repository(seaweedfs_server, bucket, storage_class="STANDARD_IA")]
    here.save()
    key = f"etcd/prod/backups/{here.backup()}/snapshot.db.zst.age"
    assert seaweedfs_server.client().head_object(Bucket=bucket, Key=key)["StorageClass"] == "STANDARD_IA"
