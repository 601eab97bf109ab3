from __future__ import annotations

import os
from pathlib import Path

import pytest

from etcdguard.errors import UsageError
from etcdguard.etcd.tools import Tool, ToolKind, bundled_search_path, find_tool, restore_tool


def program(folder: Path, name: str, answer: str, *, mode: int = 0o755) -> Path:
    """A stand-in that answers its version question and fails for any other."""
    question = "--version" if name == "etcd" else "version"
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n[ \"$*\" = '{question}' ] || exit 1\ncat <<'END'\n{answer}\nEND\n")
    path.chmod(mode)
    return path


ETCD = "etcd Version: 3.5.21\nGit SHA: a17edfd59\nGo Version: go1.23.7\nGo OS/Arch: linux/amd64"
CTL_34 = "etcdctl version: 3.4.23\nAPI version: 3.4"
CTL_36 = "etcdctl version: 3.6.16\nAPI version: 3.6"
UTL_36 = "etcdutl version: 3.6.0-rc.4\nAPI version: 3.6"


def tool(kind: ToolKind, *version: int) -> Tool:
    major, minor, patch = version
    return Tool(Path("/usr/bin") / kind, (major, minor, patch), kind)


def test_the_first_program_on_the_search_path_is_described(tmp_path: Path) -> None:
    path = program(tmp_path / "b", "etcd", ETCD)
    program(tmp_path / "c", "etcd", ETCD.replace("3.5.21", "3.4.0"))
    found = find_tool("etcd", None, f"{tmp_path}/a:{tmp_path}/b:{tmp_path}/c")
    assert found == Tool(path, (3, 5, 21), "etcd")
    assert (found.minor, found.version_text) == ("3.5", "3.5.21")


def test_an_explicit_program_wins_over_the_search_path(tmp_path: Path) -> None:
    program(tmp_path / "a", "etcdctl", CTL_34)
    named = program(tmp_path / "b", "etcdctl", CTL_36)
    assert find_tool("etcdctl", named, str(tmp_path / "a")).version == (3, 6, 16)


def test_a_pre_release_counts_as_its_release(tmp_path: Path) -> None:
    program(tmp_path, "etcdutl", UTL_36)
    assert find_tool("etcdutl", None, str(tmp_path)).version == (3, 6, 0)


def test_the_environment_does_not_reach_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "http://127.0.0.1:1")
    path = tmp_path / "etcdctl"
    path.write_text(f'#!/bin/sh\n[ -z "$ETCDCTL_ENDPOINTS" ] && echo "{CTL_34}"\n')
    path.chmod(0o755)
    assert find_tool("etcdctl", path, "").minor == "3.4"


@pytest.mark.parametrize("search_path", ["", "/does/not/exist"])
def test_nothing_is_found_outside_the_search_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search_path: str
) -> None:
    program(tmp_path, "etcd", ETCD)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(UsageError, match="etcd was not found") as caught:
        find_tool("etcd", None, search_path)
    assert caught.value.exit_code == 64
    assert "etcd" in caught.value.hint


def test_an_explicit_file_must_be_executable(tmp_path: Path) -> None:
    path = program(tmp_path, "etcd", ETCD, mode=0o644)
    with pytest.raises(UsageError, match="is not an executable file"):
        find_tool("etcd", path, "")
    with pytest.raises(UsageError, match="is not an executable file"):
        find_tool("etcd", tmp_path / "absent", "")


def test_another_program_under_that_name_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path, "etcdutl", CTL_34)
    with pytest.raises(UsageError, match="is etcdctl, not etcdutl"):
        find_tool("etcdutl", path, "")
    stranger = program(tmp_path, "etcdctl", "Usage: something else")
    with pytest.raises(UsageError, match="did not answer like etcdctl"):
        find_tool("etcdctl", stranger, "")


def test_a_file_that_cannot_be_run_is_an_error_with_a_cause(tmp_path: Path) -> None:
    path = tmp_path / "etcd"
    path.write_text("#!/does/not/exist\n")
    path.chmod(0o755)
    with pytest.raises(UsageError, match="could not be asked for its version") as caught:
        find_tool("etcd", path, "")
    assert isinstance(caught.value.__cause__, OSError)


def test_restore_prefers_etcdutl_over_etcdctl(tmp_path: Path) -> None:
    program(tmp_path, "etcdctl", CTL_34)
    assert restore_tool(None, str(tmp_path)).kind == "etcdctl"
    program(tmp_path, "etcdutl", UTL_36)
    assert restore_tool(None, str(tmp_path)).kind == "etcdutl"


def test_restore_needs_a_program_that_restores(tmp_path: Path) -> None:
    path = program(tmp_path, "etcdctl", CTL_36)
    with pytest.raises(UsageError, match="no etcdutl was found"):
        restore_tool(None, str(tmp_path))
    with pytest.raises(UsageError, match=r"etcdctl 3\.6\.16, which cannot restore"):
        restore_tool(path, "")


def test_restore_takes_the_program_named_whatever_its_kind(tmp_path: Path) -> None:
    named = program(tmp_path / "a", "etcdctl", CTL_34)
    program(tmp_path / "b", "etcdutl", UTL_36)
    assert restore_tool(named, str(tmp_path / "b")).path == named


@pytest.mark.parametrize(
    ("candidate", "restores", "bumps"),
    [
        (tool("etcd", 3, 5, 21), False, False),
        (tool("etcdctl", 3, 4, 23), True, False),
        (tool("etcdctl", 3, 4, 27), True, True),
        (tool("etcdctl", 3, 5, 9), True, False),
        (tool("etcdctl", 3, 5, 10), True, True),
        (tool("etcdctl", 3, 6, 0), False, False),
        (tool("etcdutl", 3, 5, 1), True, False),
        (tool("etcdutl", 3, 5, 10), True, True),
        (tool("etcdutl", 3, 6, 0), True, True),
        (tool("etcdutl", 3, 7, 3), True, True),
    ],
)
def test_what_a_tool_can_do(candidate: Tool, restores: bool, bumps: bool) -> None:
    assert (candidate.can_restore, candidate.can_bump_revision) == (restores, bumps)


def test_the_demo_extra_brings_all_three_programs() -> None:
    search_path = bundled_search_path()
    found = {kind: find_tool(kind, None, search_path).minor for kind in ("etcd", "etcdctl", "etcdutl")}
    assert found == {"etcd": "3.5", "etcdctl": "3.5", "etcdutl": "3.5"}
