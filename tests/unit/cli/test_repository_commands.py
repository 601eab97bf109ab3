"""``list``, ``prune`` and ``verify`` on a repository in a directory."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdguard.cli.prune import _table as prune_table
from etcdguard.cli.verify import _table as verify_table
from etcdguard.storage.file import FileStore
from tests.support.backups import CLUSTER, IDENTITY, SIGNER
from tests.unit.audit.scenes import Scene
from tests.unit.cli.running import run

KEEP_ONE = {"keep_last": 1}


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """Four backups an hour apart in repository ``first``."""
    scene = Scene(tmp_path, stores=[FileStore.create("first", tmp_path / "first")])
    now = datetime.now(timezone.utc)
    for hour in (3, 2, 1, 0):
        scene.to(now - timedelta(hours=hour, seconds=30))
        scene.backup()
    (tmp_path / "signing.pem").write_bytes(SIGNER.private_pem())
    (tmp_path / "signing.pem").chmod(0o600)
    return scene


@pytest.fixture
def command(tmp_path: Path, scene: Scene, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(
        *args: str,
        code: int = 0,
        names: tuple[str, ...] = ("first",),
        retention: dict[str, int] | None = KEEP_ONE,
    ) -> tuple[str, str]:
        settings = {
            "cluster": {"name": CLUSTER},
            "encryption": {"recipients": [str(IDENTITY.recipient)]},
            "signing": {"key_file": "signing.pem"},
            "repositories": [{"name": name, "file": {"path": name}} for name in names],
            **({"retention": retention} if retention else {}),
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        capsys.readouterr()
        assert run("--config", tmp_path / "config.yaml", *args) == code
        out, err = capsys.readouterr()
        return out, err

    return call


def test_a_damaged_backup_is_not_listed_but_logged(scene: Scene, command: Any) -> None:
    damaged, *sound = scene.ids
    scene.store.put(scene.manifest_key(damaged), b"{}")
    out, err = command("--log-format", "json", "list", "-o", "json")
    assert [one["id"] for one in json.loads(out)["backups"]] == sound
    (line,) = (json.loads(line) for line in err.splitlines())
    assert (line["event"], line["backup"], line["level"]) == ("backup.damaged", damaged, "warning")


def test_a_prune_that_would_take_too_much_is_refused_and_the_plan_says_so(scene: Scene, command: Any) -> None:
    out, _ = command("prune")
    rows = [line.split(None, 3) for line in out.splitlines() if line.startswith("first ")]
    assert [row[1:3] for row in rows] == [
        *([one, "would"] for one in scene.ids[:3]),
        [scene.ids[3], "stays"],
    ]
    assert "first: --confirm would be refused: " in out

    out, err = command("prune", "--confirm", code=15)
    assert out == ""
    assert err.startswith("error: ")

    out, _ = command("prune", "--confirm", "--max-fraction", "0.8", "-o", "json")
    assert sorted(one["id"] for one in json.loads(out)["remove"]) == scene.ids[:3]


def test_of_two_repositories_one_refuses_and_the_other_is_pruned(
    scene: Scene, command: Any, tmp_path: Path
) -> None:
    """The report is of what was done; the exit code is that of the refusal."""
    other = Scene(tmp_path / "other", stores=[FileStore.create("second", tmp_path / "second")])
    for minutes in (90, 60, 30):
        other.to(datetime.now(timezone.utc) - timedelta(minutes=minutes))
        other.backup(scheduled=False)
    out, err = command("prune", "--confirm", "--max-fraction", "0.7", names=("first", "second"), code=15)
    assert {row.split()[0] for row in out.splitlines()[1:]} == {"second"}
    assert err.splitlines()[-2].endswith("3 of 4 backups would go, more than the 70% allowed")
    out, _ = command("list", "-o", "json")
    assert [one["id"] for one in json.loads(out)["backups"]] == scene.ids
    out, err = command("list", "--repository", "second", "-o", "json", names=("first", "second"))
    assert [one["id"] for one in json.loads(out)["backups"]] == other.ids[-1:]
    assert err == ""


def test_without_retention_nothing_is_pruned(scene: Scene, command: Any) -> None:
    out, err = command("prune", "--confirm", code=64, retention=None)
    assert (out, err.splitlines()[0]) == ("", "error: no retention is configured: everything is kept")
    assert len(json.loads(command("list", "-o", "json")[0])["backups"]) == len(scene.ids)


def test_leftovers_are_counted_by_repository() -> None:
    none = {"repository": "first", "objects": [], "uploads": 0, "refused": None}
    some = {"repository": "second", "objects": ["a", "b"], "uploads": 1, "refused": "too many"}
    document = {"keep": [], "remove": [], "leftovers": [none, some]}
    would = prune_table({**document, "dry_run": True}).split("\n\n")
    assert would == [
        "no backups",
        "second: 2 objects and 1 uploads that belong to no backup would go too",
        "second: --confirm would be refused: too many",
    ]
    done = prune_table({**document, "dry_run": False}).split("\n\n")
    assert done[1:] == ["second: 2 objects and 1 uploads that belong to no backup are gone too"]


def test_a_verification_as_it_is_shown(scene: Scene, command: Any) -> None:
    out, _ = command("verify", "latest", "--level", "manifest")
    head, row = out.splitlines()
    assert head.split() == ["ID", "LEVEL", "OUTCOME", "PROBLEMS"]
    assert row.split() == [scene.ids[-1], "manifest", "ok", "-"]
    scene.store.delete(scene.manifest_key(scene.ids[-1]) + ".sig")
    out, err = command("verify", scene.ids[-1], "--level", "manifest", code=13)
    assert "failed" in out.splitlines()[1].split()
    assert err.splitlines()[0] == "error: 1 of 1 backups failed verification"


def test_a_repository_without_backups_is_skipped_or_an_error(command: Any, tmp_path: Path) -> None:
    FileStore.create("empty", tmp_path / "empty")
    out, err = command("verify", "--if-any", names=("empty",))
    assert (out.split(), err) == (["skipped", "no", "backup", "has", "been", "taken", "yet"], "")
    out, err = command("verify", names=("empty",), code=10)
    assert out == ""
    assert err.startswith("error: no backup of cluster prod in repository empty\n")


def test_a_drill_as_it_is_shown() -> None:
    drill = {
        "rto_seconds": 83.0,
        "seconds": {"fetch": 3.0, "start": 80.0},
        "proofs": {"revision": "20"},
        "keys": {"/registry/pods/": 12},
    }
    result = {"id": "b1", "level": "drill", "outcome": "ok", "problems": [], "drill": drill}
    first, proofs, keys, parts = verify_table({"results": [result]}).split("\n\n")
    assert first.splitlines()[1].split() == ["b1", "drill", "ok", "-"]
    assert proofs.splitlines()[1].split() == ["revision", "20"]
    assert keys.splitlines()[1].split() == ["/registry/pods/", "12"]
    assert [line.split() for line in parts.splitlines()[1:]] == [
        ["fetch", "3.0s"],
        ["start", "1m20s"],
        ["total", "1m23s"],
    ]
