"""Where a directory of a member stands, where its successor is made, and where it is kept. Only looks.

A directory is replaced by renaming, so its successor is made beside it, on the same file system. A mount
point cannot be renamed: there both are inside it, and the contents move.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

__all__ = ["STAGED", "Place", "contents", "kept_name", "staged_name"]

_FOREIGN = ("lost+found",)
STAGED = ".etcdguard-"
"""In every name that is only there while a restore or a replacement is at work."""
_KEPT = "before-"


@dataclass(frozen=True)
class Place:
    """The three names of one directory, all on one file system."""

    target: Path
    staged: Path
    kept: Path

    @property
    def mounted(self) -> bool:
        """Whether the target is a mount point, with the other two inside it."""
        return self.kept.parent == self.target

    @property
    def leaving(self) -> Path:
        """Inside a mount point: what is to be kept, while it is being moved there or back."""
        return self.kept.with_name(f"{self.kept.name}.part")


def staged_name(directory: str, plan_id: str, mounts: Collection[str]) -> str:
    """Where the successor of a directory is made; etcd takes no notice of such names in its own."""
    return f"{directory}{'/' if directory in mounts else ''}{STAGED}{plan_id}"


def kept_name(directory: str, plan_id: str, mounts: Collection[str]) -> str:
    """Where a directory, or what is in it, is kept."""
    return f"{directory}{'/' if directory in mounts else '.'}{_KEPT}{plan_id}"


def contents(directory: Path) -> list[str]:
    """What is in a directory, without what the file system or a restore has put there; sorted."""
    if not directory.is_dir():
        return []
    return sorted(
        entry.name
        for entry in directory.iterdir()
        if entry.name not in _FOREIGN and not entry.name.startswith(_KEPT) and STAGED not in entry.name
    )
