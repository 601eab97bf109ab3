"""The example file and the documentation know every key of the schema, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdguard.config import load, parse
from etcdguard.config.settings import SETTINGS
from etcdguard.config.suggest import schema_keys
from etcdguard.errors import ConfigError

_ROOT = Path(__file__).parents[3]
_EXAMPLE = _ROOT / "config" / "etcdguard.example.yaml"
_OPEN = {"checks.thresholds"}
"""Mappings whose keys are free."""


def _keys(value: Any, where: str = "") -> set[str]:
    if where not in _OPEN and isinstance(value, dict):
        return {key for name, item in value.items() for key in _keys(item, f"{where}.{name}".lstrip("."))}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {key for item in value for key in _keys(item, f"{where}[]")}
    return {where}


def _with_every_key_set() -> str:
    return re.sub(r"^#(?! [^ ])(?=[ a-z])", "", _EXAMPLE.read_text(), flags=re.MULTILINE)


def test_the_example_loads() -> None:
    config = load(_EXAMPLE, {}, {}).config
    assert config.cluster.name == "prod"
    assert [repository.name for repository in config.repositories] == ["offsite", "local"]


def test_the_example_holds_every_key() -> None:
    assert _keys(yaml.safe_load(_with_every_key_set())) == set(schema_keys())


def test_the_commented_values_of_the_example_are_valid() -> None:
    text = _with_every_key_set()
    for exclusive in ("recipients_file", "passphrase_file", "unit"):
        text = re.sub(rf"^ *{exclusive}: .*\n", "", text, flags=re.MULTILINE)
    parse(text, _EXAMPLE)


def test_exclusive_keys_of_the_example_are_the_only_conflict() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(_with_every_key_set(), _EXAMPLE)
    assert "encryption: needs exactly one of" in caught.value.message
    assert "members[0].service: a static-pod service" in caught.value.message
    assert "(and 1 more: " in caught.value.message


def test_the_documentation_holds_every_key() -> None:
    text = (_ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", text, flags=re.MULTILINE)
    assert sorted(rows) == sorted(schema_keys())


def test_the_documentation_holds_every_variable() -> None:
    text = (_ROOT / "docs" / "configuration.md").read_text()
    for setting in SETTINGS:
        for variable in setting.variables:
            assert f"`{variable}`" in text
