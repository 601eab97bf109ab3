"""Every command of the read side reads what every version has written (tests/golden/repository)."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from etcdguard.etcd.stream import TRAILER_BYTES
from tests.e2e.running import Installation, tree
from tests.support.etcd_versions import EtcdPrograms
from tests.support.golden_repository import Golden, GoldenBackup, golden_repositories

_ID = r"[0-9]{8}T[0-9]{6}Z-r[0-9]{20}-[0-9a-f]{8}"
CASES = [(golden, backup) for golden in golden_repositories() for backup in golden.backups]

each_repository = pytest.mark.parametrize("golden", golden_repositories(), ids=lambda one: one.folder.name)
each_backup = pytest.mark.parametrize(
    ("golden", "backup"), CASES, ids=[f"{golden.folder.name}-{backup.kind}" for golden, backup in CASES]
)


class Reader(Installation):
    """A machine that has a copy of the repository and what opens it, and signs nothing."""

    def __init__(self, folder: Path, golden: Golden) -> None:
        self.golden = golden
        shutil.copytree(golden.folder, folder)
        for secret in folder.glob("test-only-*.txt"):
            secret.chmod(0o600)  # git keeps no such mode
        for path in (folder / "repository").rglob("*"):
            path.chmod(0o700 if path.is_dir() else 0o600)
        settings = {
            "cluster": {"name": "prod", "endpoints": ["http://127.0.0.1:1"]},
            "repositories": [{"name": "golden", "file": {"path": str(folder / "repository")}}],
            "encryption": {"disabled": True},
            "signing": {"trusted_signers": [str(folder / golden.public_key.name)]},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        super().__init__(folder)

    def opening(self, backup: GoldenBackup, *, identity: int = 1) -> list[str | Path]:
        """The flags that open a backup; a passphrase comes by the configuration alone."""
        if backup.kind == "passphrase":
            path = str(self.folder / self.golden.passphrase_file.name)
            self.settings["encryption"] = {"passphrase_file": path}
            self.save()
            return []
        return ["--identity", self.folder / self.golden.identity(identity).name]

    def unsigned(self, backup: GoldenBackup) -> list[str | Path]:
        """The flag for a backup that nobody signed."""
        return [] if backup.signed else ["--allow-unsigned"]


@pytest.fixture
def here(tmp_path: Path, golden: Golden) -> Reader:
    return Reader(tmp_path / "here", golden)


def test_there_is_one_of_every_kind() -> None:
    assert golden_repositories()
    for golden in golden_repositories():
        kinds = {backup.kind for backup in golden.backups}
        assert kinds == {"recipients", "slot", "passphrase", "not encrypted", "unsigned"}


@each_repository
def test_list_shows_every_backup_as_it_was(here: Reader, golden: Golden) -> None:
    before = tree(here.repository)
    done = here.run("list", "-o", "json")
    assert done.err == ""
    listed = done.document["backups"]
    assert [one["id"] for one in listed] == [backup.id for backup in golden.backups]
    for one, backup in zip(listed, golden.backups, strict=True):
        assert (one["revision"], one["db_bytes"]) == (backup.revision, backup.db_bytes)
        assert (one["signed"], one["held"]) == (backup.signed, backup.held)
        assert one["verified_level"] == backup.verified_level
    (held,) = here.json("hold", "list")["holds"]
    assert held["reason"] == "the first golden one"
    assert held["actor"] == "golden-node"
    assert tree(here.repository) == before


@each_repository
def test_a_prune_is_planned_from_it(here: Reader, golden: Golden) -> None:
    here.settings["retention"] = {"keep_last": 1}
    here.save()
    kinds = {backup.id: backup.kind for backup in golden.backups}
    plan = here.json("prune")
    reasons = {kinds[one["id"]]: one["reasons"] for one in plan["keep"]}
    assert {kinds[one["id"]] for one in plan["remove"]} == {"slot"}
    assert any("hold" in reason for reason in reasons["recipients"])


@each_repository
def test_an_audit_reports_on_it(here: Reader, golden: Golden) -> None:
    done = here.run("audit", "--from", "2026-11-21", "--to", "2026-11-22", "-o", "json", code=None)
    assert done.code in (0, 13, 14), done.err
    assert {backup.id for backup in golden.backups} <= set(re.findall(_ID, done.out))


@each_backup
def test_show(here: Reader, backup: GoldenBackup, golden: Golden) -> None:
    shown = here.json("show", backup.id)
    manifest = shown["manifest"]
    assert shown["signature"] == ("valid" if backup.signed else "missing")
    assert manifest["snapshot"]["revision"] == backup.revision
    assert {one["name"] for one in manifest["members"]} == set(golden.facts["members"])
    assert (manifest["slot"] is not None) == (backup.kind == "slot")


@each_backup
def test_verify(here: Reader, backup: GoldenBackup, golden: Golden) -> None:
    del golden
    flags = here.opening(backup)
    (result,) = here.json("verify", backup.id, "--level", "data", *flags, code=0 if backup.signed else 13)[
        "results"
    ]
    assert result["problems"] == ([] if backup.signed else ["the manifest is not signed"])


@each_backup
def test_download(here: Reader, backup: GoldenBackup, golden: Golden) -> None:
    snapshot = here.folder / "snapshot.db"
    here.run("download", backup.id, "-o", snapshot, *here.opening(backup), *here.unsigned(backup))
    content = snapshot.read_bytes()
    assert len(content) == backup.db_bytes + TRAILER_BYTES
    others = [one.value for one in golden.backups if one.id > backup.id]
    assert backup.value.encode() in content
    assert not any(value.encode() in content for value in others)


@each_repository
def test_each_of_several_recipients_opens_a_backup(here: Reader, golden: Golden) -> None:
    (backup,) = (one for one in golden.backups if one.kind == "recipients")
    snapshots = []
    for number in (1, 2):
        snapshots.append(here.folder / f"{number}.db")
        here.run("download", backup.id, "-o", snapshots[-1], *here.opening(backup, identity=number))
    first, second = (snapshot.read_bytes() for snapshot in snapshots)
    assert first == second


@pytest.mark.parametrize(
    ("golden", "etcd_binaries"),
    [(golden, golden.facts["etcd_line"]) for golden in golden_repositories()],
    ids=[golden.folder.name for golden in golden_repositories()],
    indirect=["etcd_binaries"],
)
def test_a_restore_is_planned(here: Reader, etcd_binaries: EtcdPrograms, golden: Golden) -> None:
    (backup,) = (one for one in golden.backups if one.kind == "slot")
    folders = [f"--data-dir={name}={here.folder / name}" for name in golden.facts["members"]]
    tool: list[str | Path] = ["--etcdutl", etcd_binaries.restore.path, *folders]
    plan = here.json("restore", backup.id, "--all", "--dry-run", *tool)["plan"]
    assert plan["backup_id"] == backup.id
    assert {one["name"] for one in plan["members"]} == set(golden.facts["members"])
    here.run("restore", "plan", backup.id, "-o", here.folder / "plan.json", *tool)
    assert backup.id in (here.folder / "plan.json").read_text()
