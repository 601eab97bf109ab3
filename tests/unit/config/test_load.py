from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from etcdguard.config import Loaded, load
from etcdguard.config.show import redacted
from etcdguard.errors import ConfigError

from .texts import MINIMAL, PATH, RECIPIENT, parsed

_FILE = MINIMAL.replace("name: prod", "name: prod\n  endpoints: [file:1]\n  user: filer\n  password_file: pw")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(_FILE)
    return path


def _endpoints(path: Path, env: Mapping[str, str], flags: Mapping[str, str]) -> tuple[str, str]:
    loaded = load(path, env, flags)
    return ",".join(loaded.config.cluster.endpoints), loaded.origins["cluster.endpoints"]


def test_precedence_is_flag_etcdguard_etcdctl_file_default(config_file: Path) -> None:
    both = {"ETCDGUARD_ENDPOINTS": "ours:1", "ETCDCTL_ENDPOINTS": "theirs:1, theirs:2"}
    theirs = {"ETCDCTL_ENDPOINTS": both["ETCDCTL_ENDPOINTS"]}
    assert _endpoints(config_file, both, {"endpoints": "flag:1"}) == ("flag:1", "--endpoints")
    assert _endpoints(config_file, both, {}) == ("ours:1", "ETCDGUARD_ENDPOINTS")
    assert _endpoints(config_file, theirs, {}) == ("theirs:1,theirs:2", "ETCDCTL_ENDPOINTS")
    assert _endpoints(config_file, {}, {}) == ("file:1", f"{config_file}:3")
    config_file.write_text(MINIMAL)
    assert _endpoints(config_file, {}, {}) == ("127.0.0.1:2379", "default")


def test_an_empty_variable_is_unset(config_file: Path) -> None:
    assert _endpoints(config_file, {"ETCDGUARD_ENDPOINTS": "", "ETCDCTL_ENDPOINTS": ""}, {})[0] == "file:1"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CACERT", "/ca.pem", Path("/ca.pem")),
        ("USER", "root", "root"),
        ("COMMAND_TIMEOUT", "1m30s", timedelta(seconds=90)),
        ("SERVER_NAME", "etcd", "etcd"),
    ],
)
def test_variables_reach_their_key(config_file: Path, variable: str, value: str, expected: object) -> None:
    loaded = load(config_file, {f"ETCDGUARD_{variable}": value}, {})
    assert getattr(loaded.config.cluster, variable.lower()) == expected
    assert loaded.origins[f"cluster.{variable.lower()}"] == f"ETCDGUARD_{variable}"


def test_certificate_and_key_from_the_environment(config_file: Path) -> None:
    cluster = load(config_file, {"ETCDCTL_CERT": "c.pem", "ETCDCTL_KEY": "/k.pem"}, {}).config.cluster
    assert cluster.cert == Path.cwd() / "c.pem"
    assert cluster.key == Path("/k.pem")


def _credentials(loaded: Loaded) -> tuple[str | None, str | None, Path | None]:
    cluster = loaded.config.cluster
    password = cluster.password.get_secret_value() if cluster.password else None
    return cluster.user, password, cluster.password_file


@pytest.mark.parametrize(
    ("env", "flags", "expected"),
    [
        ({}, {}, ("filer", None, "pw")),
        ({"ETCDCTL_USER": "root:s:t"}, {}, ("root", "s:t", None)),
        ({"ETCDGUARD_USER": "root:st"}, {}, ("root", "st", None)),
        ({"ETCDCTL_USER": "ro:ot", "ETCDCTL_PASSWORD": "st"}, {}, ("ro:ot", "st", None)),
        ({"ETCDGUARD_PASSWORD": "a", "ETCDCTL_PASSWORD": "b"}, {}, ("filer", "a", None)),
        ({"ETCDCTL_USER": "bob:bobs"}, {"user": "root"}, ("root", None, "pw")),
        ({"ETCDGUARD_PASSWORD": "a"}, {"user": "root"}, ("root", "a", None)),
    ],
)
def test_user_and_password(
    config_file: Path,
    env: dict[str, str],
    flags: dict[str, str],
    expected: tuple[str, str | None, str | None],
) -> None:
    user, password, file = expected
    found = _credentials(load(config_file, env, flags))
    assert found == (user, password, config_file.parent / file if file else None)


@pytest.mark.parametrize(
    ("variable", "meant"), [("ETCDGUARD_ENDPOINT", "ETCDGUARD_ENDPOINTS"), ("ETCDGUARD_XYZZY", None)]
)
def test_an_unknown_variable_of_ours_is_refused(config_file: Path, variable: str, meant: str | None) -> None:
    with pytest.raises(ConfigError, match=f"^{variable}: unknown environment variable") as caught:
        load(config_file, {variable: "hunter2"}, {})
    assert (f"did you mean {meant}?" in caught.value.message) == (meant is not None)
    assert "hunter2" not in caught.value.message + caught.value.hint


def test_other_variables_are_not_ours(config_file: Path) -> None:
    names = ("ETCDGUARD_CONFIG", "ETCDGUARD_DEBUG", "ETCDGUARD_LOG_FORMAT", "ETCDGUARD_REQUIRE_ETCD")
    others = ("ETCDGUARD_AGE_VECTORS", "ETCDCTL_API", "_ETCDGUARD_COMPLETE", "PATH")
    assert load(config_file, dict.fromkeys((*names, *others), "x"), {}).config.cluster.name == "prod"


@pytest.mark.parametrize(
    ("env", "flags", "origin"),
    [
        ({"ETCDCTL_COMMAND_TIMEOUT": "soon"}, {}, "ETCDCTL_COMMAND_TIMEOUT"),
        ({}, {"command_timeout": "soon"}, "--command-timeout"),
    ],
)
def test_a_bad_override_is_named_by_its_origin(
    config_file: Path, env: dict[str, str], flags: dict[str, str], origin: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{origin}: cluster.command_timeout: not a duration: 'soon'"):
        load(config_file, env, flags)


def test_relative_paths_start_at_the_folder_of_the_file() -> None:
    text = MINIMAL + "signing: {key_file: k.pem, trusted_signers: [sub/a.pem, /b.pem]}\n"
    signing = parsed(text).config.signing
    assert signing.key_file == PATH.parent / "k.pem"
    assert signing.trusted_signers == (PATH.parent / "sub/a.pem", Path("/b.pem"))


def test_lists_have_origins_by_element() -> None:
    text = (
        MINIMAL + "repositories:\n  - name: a\n    file: {path: r}\n  - name: b\n    s3:\n      bucket: bbb\n"
    )
    origins = parsed(text).origins
    assert origins["repositories[0].file.path"] == f"{PATH}:7"
    assert origins["repositories[1].s3.bucket"] == f"{PATH}:10"
    assert origins["repositories[1].s3.prefix"] == "default"


def test_disabled_encryption_must_be_written_out() -> None:
    assert parsed("cluster: {name: a}\nencryption: {disabled: true}\n").config.encryption.disabled


def test_the_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        parsed(MINIMAL).config.backup.timeout = timedelta(1)  # type: ignore[misc]


def test_a_command_that_needs_a_repository_says_so() -> None:
    with pytest.raises(ConfigError, match="no repository is configured") as caught:
        parsed(MINIMAL).repositories()
    assert "repositories:" in caught.value.hint


def test_secrets_redact_themselves(config_file: Path) -> None:
    config_file.write_text(_FILE + "notify: {webhooks: ['https://h/hunter2']}\n")
    loaded = load(config_file, {"ETCDGUARD_PASSWORD": "hunter2"}, {})
    shown = redacted(loaded.config)
    assert shown["cluster"]["password"] == "(redacted)"
    assert shown["notify"]["webhooks"] == [{"url": "(redacted)", "format": "json"}]
    assert "hunter2" not in f"{loaded!r} {loaded.config} {shown}"


def test_what_is_shown_is_what_a_file_would_hold() -> None:
    shown = redacted(parsed(MINIMAL).config)
    assert shown["backup"]["schedule"] is None
    assert shown["backup"]["spool_dir"] == "/var/lib/etcdguard/spool"
    assert shown["backup"]["timeout"] == "1h"
    assert shown["backup"]["max_bytes"] == "16GiB"
    assert shown["encryption"]["recipients"] == [RECIPIENT]
