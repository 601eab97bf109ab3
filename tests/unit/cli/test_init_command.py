from __future__ import annotations

import json
from pathlib import Path

import pytest

from etcdguard.config import load

from .running import run


def test_init_without_flags_keeps_everything_beside_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    assert run("init", "--config", path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "two safe places away from this machine" in out
    assert "AGE-SECRET-KEY" not in out
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {
        "config.yaml",
        "identity.txt",
        "signing.key.pem",
        "signing.pub.pem",
        "repository",
        "spool",
    }
    assert run("config", "validate", "--config", path) == 0


def test_flags_are_written_and_the_report_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    flags = ("--cluster-name", "prod", "--repository", "s3://backups/etcd", "--spool-dir", tmp_path / "sp")
    connection = ("--endpoints", "https://a:1,https://b:1", "--cacert", "/ca.pem", "--command-timeout", "9s")
    assert run("init", "--config", path, *flags, *connection, "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    config = load(path, {}, {}).config
    assert document["schema_version"] == 1
    assert document["config"] == str(path)
    assert document["recipient"] == config.encryption.recipients[0]
    assert config.cluster.name == "prod"
    assert config.cluster.endpoints == ("https://a:1", "https://b:1")
    assert config.cluster.cacert == Path("/ca.pem")
    assert config.backup.spool_dir == tmp_path / "sp"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--cluster-name", "a/b"), "cluster.name: not a usable name"),
        (("--endpoints", "https://a"), "error: --endpoints: cluster.endpoints[0]: not an etcd endpoint"),
        (("--cert", "/c.pem"), "cert and key belong together"),
        (("--repository", "gs://b"), "not a repository: 'gs://b'"),
        (("--repository", "s3://B_/"), "not a bucket name"),
    ],
)
def test_bad_flags_write_nothing(
    tmp_path: Path, args: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("init", "--config", tmp_path / "sub" / "config.yaml", *args) == 64
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_second_init_is_refused_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    assert run("init", "--config", path) == 0
    before = {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    capsys.readouterr()
    assert run("init", "--config", path) == 15
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: already there and not overwritten: ")
    assert {file: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
