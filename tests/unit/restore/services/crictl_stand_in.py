"""A program that answers ``crictl ps`` in crictl's JSON; which containers run is said by the test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["FakeCrictl", "container"]

_PROGRAM = """\
#!/bin/sh
cd {folder}
printf '%s\\n' "$@" >asked
cat error >&2
cat answer
exit $(cat code)
"""


def container(pod: str, name: str, namespace: str = "kube-system") -> dict[str, Any]:
    """One entry of ``crictl ps -o json``."""
    return {
        "id": "5a1ee3c0d2bd7",
        "podSandboxId": "0f7b8e0c5f0e1",
        "metadata": {"name": name, "attempt": 0},
        "image": {"image": "sha256:499038711c081"},
        "imageRef": "sha256:499038711c081",
        "state": "CONTAINER_RUNNING",
        "createdAt": "1795222800000000000",
        "labels": {
            "io.kubernetes.container.name": name,
            "io.kubernetes.pod.name": pod,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": "c4b1f4f4a1c4f0c1",
        },
        "annotations": {"io.kubernetes.container.restartCount": "0"},
    }


class FakeCrictl:
    """``path`` is the program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "crictl"
        self.path.write_text(_PROGRAM.format(folder=folder))
        self.path.chmod(0o755)
        self.runs()

    def runs(self, *containers: dict[str, Any]) -> None:
        self.answers(json.dumps({"containers": containers}))

    def answers(self, text: str, *, code: int = 0, error: str = "") -> None:
        for name, content in (("answer", text), ("code", str(code)), ("error", error)):
            (self._folder / name).write_text(content)

    def fails(self, error: str) -> None:
        self.answers("", code=1, error=error)

    def asked(self) -> list[str]:
        """The arguments of the last call."""
        return (self._folder / "asked").read_text().splitlines()
