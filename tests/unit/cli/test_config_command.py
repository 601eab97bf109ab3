from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from .running import MINIMAL, run


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL)
    return path


def test_validate(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "validate", "--config", config_file) == 0
    assert capsys.readouterr().out == f"{config_file}: ok\n"


def test_validate_as_json(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--config", config_file, "config", "validate", "-o", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema_version": 1, "path": str(config_file), "outcome": "ok", "repositories": 0}


def test_validate_refuses(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config_file.write_text("clustr: {}\n")
    assert run("config", "validate", "--config", config_file) == 64
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {config_file}:1: clustr: unknown key, did you mean 'cluster'?")


def test_a_flag_after_the_command_wins_over_the_environment(
    config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ETCDGUARD_CONFIG", "/nowhere.yaml")
    assert run("config", "validate") == 64
    assert "/nowhere.yaml: no such configuration file" in capsys.readouterr().err
    assert run("config", "validate", "--config", config_file) == 0
    assert run("--config", config_file, "config", "validate") == 0


def test_show_tells_values_and_origins(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(
        "config", "show", "--config", config_file, "--endpoints", "a:1,b:2", ETCDCTL_USER="root:hunter2"
    )
    assert code == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}
    assert rows["cluster.endpoints"].split() == ["a:1,", "b:2", "--endpoints"]
    assert rows["cluster.name"].split() == ["prod", f"{config_file}:1"]
    assert rows["cluster.password"].split() == ["(redacted)", "ETCDCTL_USER"]
    assert rows["backup.timeout"].split() == ["1h", "default"]
    assert rows["encryption.disabled"].split() == ["true", f"{config_file}:2"]
    assert "hunter2" not in out


def test_show_is_the_same_in_json_and_yaml(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "show", "--config", config_file, "-o", "json", ETCDGUARD_USER="root:hunter2") == 0
    text = capsys.readouterr().out
    document = json.loads(text)
    assert document["schema_version"] == 1
    assert document["config"]["cluster"]["password"] == "(redacted)"
    assert document["origins"]["cluster.password"] == "ETCDGUARD_USER"
    assert "hunter2" not in text
    assert run("config", "show", "--config", config_file, "-o", "yaml", ETCDGUARD_USER="root:hunter2") == 0
    assert yaml.safe_load(capsys.readouterr().out) == document
