"""What a static pod's manifest says about its processes and containers. Pure, but for reading the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from etcdguard.errors import Refused
from etcdguard.restore.files import translating

__all__ = ["Container", "Pod", "read_pod"]


@dataclass(frozen=True)
class Container:
    """One container: its name, and its command with arguments; empty when the image brings them."""

    name: str
    command: tuple[str, ...]

    def runs_as(self, argv: tuple[str, ...]) -> bool:
        """Whether a process with this command line is this container's.

        The program must have the same name; and then the data directory decides, where there is one, since
        the kubelet may fill in other arguments. Otherwise all arguments must be equal.
        """
        # A script's command line begins with its interpreter.
        return self._is(argv) or self._is(argv[1:])

    def _is(self, argv: tuple[str, ...]) -> bool:
        if not self.command or not argv or _program(argv) != _program(self.command):
            return False
        directory = _data_dir(self.command)
        return argv[1:] == self.command[1:] if directory is None else _data_dir(argv) == directory


@dataclass(frozen=True)
class Pod:
    """A pod as its manifest describes it. The kubelet appends ``-`` and the node to the name."""

    name: str
    namespace: str
    containers: tuple[Container, ...]


def read_pod(manifest: Path) -> Pod:
    """Read a manifest; raises Refused for anything but a pod's."""
    with translating(f"read {manifest}"):
        data = manifest.read_bytes()
    try:
        return _pod(yaml.safe_load(data))
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError, ValueError) as e:
        raise Refused(f"{manifest} is not a pod's manifest", hint="check the path in `members`") from e


def _pod(document: Any) -> Pod:
    if document["kind"] != "Pod":
        raise ValueError(document["kind"])
    metadata = document["metadata"]
    return Pod(
        name=str(metadata["name"]),
        namespace=str(metadata.get("namespace") or "default"),
        containers=tuple(
            Container(str(container["name"]), _command(container))
            for container in document["spec"]["containers"]
        ),
    )


def _command(container: Any) -> tuple[str, ...]:
    program, arguments = container.get("command") or (), container.get("args") or ()
    return tuple(map(str, (*program, *arguments))) if program else ()


def _program(argv: tuple[str, ...]) -> str:
    return PurePosixPath(argv[0]).name


def _data_dir(argv: tuple[str, ...]) -> str | None:
    for index, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        if name in ("--data-dir", "-data-dir"):
            return value if equals else next(iter(argv[index + 1 :]), None)
    return None
