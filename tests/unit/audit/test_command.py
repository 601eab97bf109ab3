"""``etcdguard audit`` as a user meets it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdguard.audit.promise import Promise
from etcdguard.storage.file import FileStore
from tests.support.backups import CLUSTER, IDENTITY, SIGNER
from tests.unit.audit.scenes import DAY, Scene
from tests.unit.audit.test_document import checked
from tests.unit.cli.running import run


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Hourly backups in a directory, the last of just now, and a configuration beside it."""
    scene = Scene(tmp_path, stores=[FileStore.create("first", tmp_path / "first")])
    now = datetime.now(timezone.utc)
    scene.to(now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2))
    for hour in (2, 1, 0):
        scene.to(now - timedelta(hours=hour, seconds=30))
        scene.backup()
    (tmp_path / "signing.pem").write_bytes(SIGNER.private_pem())
    (tmp_path / "signing.pem").chmod(0o600)
    configure(tmp_path)
    return scene


def configure(folder: Path, **changes: Any) -> None:
    settings = {
        "cluster": {"name": CLUSTER},
        "encryption": {"recipients": [str(IDENTITY.recipient)]},
        "signing": {"key_file": "signing.pem"},
        "repositories": [{"name": "first", "file": {"path": "first"}}],
        "backup": {"schedule": "1h"},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))


@pytest.fixture
def audit(tmp_path: Path, scene: Scene, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*args: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run("--config", tmp_path / "config.yaml", "audit", *args) == code
        out, err = capsys.readouterr()
        assert bool(err) == bool(code)
        return out or err

    return call


def test_all_is_well(audit: Any) -> None:
    document = json.loads(audit("-o", "json"))
    checked(document)
    assert document["outcome"] == "PASS"
    table = audit()
    assert "cluster prod: PASS" in table
    assert "of schedule           100.00%" in table
    assert yaml.safe_load(audit("-o", "yaml"))["outcome"] == "PASS"


def test_a_page_in_a_file_with_a_signature(audit: Any, tmp_path: Path) -> None:
    assert audit("-o", "html").startswith("<!doctype html>")
    target = tmp_path / "report.html"
    assert audit("-o", "html", "--file", str(target), "--sign") == ""
    assert target.read_text().startswith("<!doctype html>")
    signature = (tmp_path / "report.html.sig").read_bytes()
    assert SIGNER.public.verify(target.read_bytes(), signature)
    audit("-o", "json", "--file", str(target))
    checked(json.loads(target.read_text()))
    assert "--sign needs --file" in audit("--sign", code=64)
    assert "cannot write" in audit("--file", str(tmp_path / "no" / "where"), code=1)
    configure(tmp_path, signing={})
    assert "no signing key" in audit("--file", str(target), "--sign", code=64)


def test_integrity_is_13_and_everything_else_14(audit: Any, scene: Scene, tmp_path: Path) -> None:
    assert "gap-too-long" in audit("--rpo", "10m", code=14)
    scene.store.delete(scene.manifest_key(scene.ids[1]))
    assert "manifest-missing" in audit("--rpo", "10m", code=13)
    document = json.loads(audit("-o", "json", code=13))
    checked(document)
    assert document["outcome"] == "FAIL"


def test_a_period_without_backups_is_an_honest_empty_report(audit: Any, tmp_path: Path) -> None:
    day = (datetime.now(timezone.utc) - 40 * DAY).strftime("%Y-%m-%d")
    document = json.loads(audit("--from", day, "--to", day, "-o", "json"))
    (cluster,) = document["clusters"]
    assert (cluster["backups"], cluster["measures"]["backups_taken"]) == ([], 0)
    assert document["outcome"] == "PASS"
    configure(tmp_path, cluster={"name": "another"})
    empty = json.loads(audit("--from", "1d", "-o", "json", code=14))
    assert {one["code"] for control in empty["clusters"][0]["controls"] for one in control["findings"]} == {
        "slot-missed",
        "no-backup",
    }
    table = audit("--from", "3d", code=14)
    assert table.count("slot-missed") == 30
    assert re.search(r"\(4\d more\) +- +- +of backups\.on-schedule: see -o json", table)


def test_all_clusters(audit: Any, scene: Scene, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each by what its own trail promised; what is foreign in the bucket is nobody's."""
    other = Scene(tmp_path, stores=scene.stores, cluster="staging", promise=Promise())
    other.to(scene.clock.moment - 5 * DAY)
    lonely = other.backup(scheduled=False)
    scene.store.put("postgres/backups/base/1", b"not ours")
    scene.store.put("photo.jpg", b"not ours")
    document = json.loads(audit("--all-clusters", "-o", "json"))
    checked(document)
    assert [(one["name"], one["outcome"]) for one in document["clusters"]] == [
        ("prod", "PASS"),
        ("staging", "PASS"),
    ]
    assert "cluster staging: PASS" in audit("--all-clusters")
    assert 'href="#staging"' in audit("--all-clusters", "-o", "html")

    assert run("--config", tmp_path / "config.yaml", "list", "--all-clusters", "-o", "json") == 0
    listed = [(one["cluster"], one["id"]) for one in json.loads(capsys.readouterr().out)["backups"]]
    assert listed == [*(("prod", one) for one in scene.ids), ("staging", lonely)]
    assert run("--config", tmp_path / "config.yaml", "list", "--all-clusters") == 0
    assert capsys.readouterr().out.startswith("CLUSTER  ID")

    other.store.delete(other.manifest_key(lonely))
    assert "manifest-missing" in audit("--all-clusters", code=13), "a cluster whose only backup is gone"


def test_a_foreign_prefix(audit: Any, scene: Scene, tmp_path: Path) -> None:
    foreign = FileStore.create("foreign", tmp_path / "foreign")
    foreign.put("prod/backups/base.tar", b"not ours")
    foreign.put("photos/1.jpg", b"not ours")
    configure(tmp_path, repositories=[{"name": "foreign", "file": {"path": "foreign"}}])
    document = json.loads(audit("-o", "json", code=14))
    codes = {one["code"] for control in document["clusters"][0]["controls"] for one in control["findings"]}
    assert codes == {"unknown-object", "slot-missed", "no-backup"}
    assert document["clusters"][0]["backups"] == []
    assert "holds no cluster's backups" in audit("--all-clusters", code=10)


@pytest.mark.parametrize(
    "args", [("--from", "yesterday"), ("--to", "x"), ("--from", "2030-01-01"), ("--rpo", "soon")]
)
def test_what_is_not_understood(audit: Any, args: tuple[str, ...]) -> None:
    assert "hint: " in audit(*args, code=64)


def test_no_repository_at_all(audit: Any, tmp_path: Path) -> None:
    (tmp_path / "first").rename(tmp_path / "gone")
    assert "error: " in audit(code=10)
