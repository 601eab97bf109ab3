"""Which etcd the demo finds: programs that only tell their version stand in for the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from etcdguard.errors import Refused, UsageError
from etcdguard.restore import programs
from etcdguard.restore.programs import find_programs


def _install(folder: Path, **versions: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, version in versions.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{name} version: {version}'\n".replace("'etcd v", "'etcd V"))
        program.chmod(0o755)
    return folder


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that stands for the extra's; empty at first."""
    folder = tmp_path / "bundled"
    folder.mkdir()
    monkeypatch.setattr(programs, "bundled_search_path", lambda: str(folder))
    return folder


def test_a_named_folder_is_the_only_one_searched(tmp_path: Path, bundled: Path) -> None:
    _install(bundled, etcd="3.5.1", etcdutl="3.5.1")
    named = _install(tmp_path / "named", etcd="3.6.1", etcdutl="3.6.2")
    found = find_programs(named, str(bundled))
    assert (found.etcd.path, found.restore.path) == (named / "etcd", named / "etcdutl")
    with pytest.raises(UsageError, match="etcd was not found"):
        find_programs(_install(tmp_path / "empty"), str(bundled))


def test_tool_and_etcd_must_be_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"etcdutl 3\.5\.9, but .* etcd 3\.6\.1"):
        find_programs(_install(tmp_path / "mixed", etcd="3.6.1", etcdutl="3.5.9"), "")


def test_the_path_comes_before_the_extra(tmp_path: Path, bundled: Path) -> None:
    _install(bundled, etcd="3.5.1", etcdutl="3.5.1")
    path = _install(tmp_path / "path", etcd="3.4.30", etcdctl="3.4.30")
    assert find_programs(None, str(path)).restore.path == path / "etcdctl"


@pytest.mark.parametrize(
    "on_path", [{}, {"etcd": "3.6.1"}, {"etcd": "3.6.1", "etcdctl": "3.6.1"}, {"etcdutl": "3.6.1"}]
)
def test_the_extra_stands_in_for_half_an_installation(
    on_path: dict[str, str], tmp_path: Path, bundled: Path
) -> None:
    _install(bundled, etcd="3.5.1", etcdutl="3.5.1")
    found = find_programs(None, str(_install(tmp_path / "path", **on_path)))
    assert (found.etcd.path, found.restore.path) == (bundled / "etcd", bundled / "etcdutl")


def test_nothing_anywhere_names_both_places(tmp_path: Path, bundled: Path) -> None:
    with pytest.raises(UsageError, match=r"PATH: etcd was not found; the `demo` extra: etcd") as error:
        find_programs(None, str(tmp_path))
    assert "etcdguard[demo]" in error.value.hint
