"""What systemd hands a service stands in place of the files that the configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.config import load
from etcdguard.config.credentials import CREDENTIALS
from etcdguard.config.document import dotted
from etcdguard.errors import ConfigError

from .texts import MINIMAL

_FILE = MINIMAL.replace("name: prod", "name: prod\n  user: u\n  key: /k\n  cert: /c\n  password_file: /pw")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(_FILE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    folder.mkdir()
    return folder


def _env(folder: Path, **more: str) -> dict[str, str]:
    return {"CREDENTIALS_DIRECTORY": str(folder), **more}


@pytest.mark.parametrize("where", CREDENTIALS, ids=dotted)
def test_each_takes_the_place_of_its_file(config_file: Path, folder: Path, where: tuple[str, str]) -> None:
    section, key = where
    if key == "passphrase_file":  # not beside recipients
        config_file.write_text("cluster: {name: prod}\nencryption: {passphrase_file: /p}\n")
    name = dotted(where)
    (folder / name).write_text("secret")
    loaded = load(config_file, _env(folder), {})
    assert getattr(getattr(loaded.config, section), key) == folder / name
    assert loaded.origins[name] == f"credential {name}"


def test_without_it_the_file_counts(config_file: Path, folder: Path) -> None:
    for env in ({}, _env(folder), _env(folder / "gone")):
        assert load(config_file, env, {}).config.cluster.key == Path("/k")


def test_a_blank_one_is_none(config_file: Path, folder: Path) -> None:
    (folder / "cluster.key").write_text("\n")
    assert load(config_file, _env(folder), {}).config.cluster.key == Path("/k")


def test_a_variable_goes_before_it(config_file: Path, folder: Path) -> None:
    (folder / "cluster.key").write_text("secret")
    (folder / "cluster.password_file").write_text("secret")
    env = _env(folder, ETCDCTL_KEY="/mine", ETCDGUARD_PASSWORD="pw")
    cluster = load(config_file, env, {}).config.cluster
    assert (cluster.key, cluster.password_file) == (Path("/mine"), None)


def test_other_files_there_mean_nothing(config_file: Path, folder: Path) -> None:
    for name in ("aws", "cluster.name", "signing.trusted_signers"):
        (folder / name).write_text("x")
    assert load(config_file, _env(folder), {}).config == load(config_file, {}, {}).config


def test_one_that_cannot_be_read_is_refused(config_file: Path, folder: Path) -> None:
    (folder / "cluster.key").mkdir()
    with pytest.raises(ConfigError, match=r"cluster\.key: Is a directory") as caught:
        load(config_file, _env(folder), {})
    assert "LoadCredential=cluster.key" in caught.value.hint


def test_one_that_contradicts_the_file_is_refused(config_file: Path, folder: Path) -> None:
    config_file.write_text("cluster: {name: prod}\nencryption: {disabled: true}\n")
    (folder / "encryption.passphrase_file").write_text("secret")
    with pytest.raises(ConfigError, match="disabled: true goes alone"):
        load(config_file, _env(folder), {})
