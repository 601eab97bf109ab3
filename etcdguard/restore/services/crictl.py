"""The container runtime, asked through crictl: whether a pod's containers still run. Only looks."""

from __future__ import annotations

import json

from etcdguard.errors import EtcdGuardError
from etcdguard.restore.services.base import CommandRunner
from etcdguard.restore.services.pod import Pod

__all__ = ["runs_any"]

_TIMEOUT = 30.0
_LABEL = "io.kubernetes."


def runs_any(crictl: str, pod: Pod, run: CommandRunner) -> bool:
    """Whether a container of the static pod runs, on whatever node; raises EtcdGuardError."""
    argv = [crictl, "ps", "--state", "Running", "--output", "json"]
    hint = "is the container runtime up? try `crictl ps` on that host"
    done = run(argv, _TIMEOUT)
    if done.code != 0:
        last = done.stderr.splitlines()[-1] if done.stderr else f"code {done.code}"
        raise EtcdGuardError(f"{' '.join(argv)}: {last}", hint=hint)
    try:
        found = [container["labels"] for container in json.loads(done.stdout)["containers"] or ()]
        return any(_is_of(pod, labels) for labels in found)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise EtcdGuardError(f"{' '.join(argv)} answered something else than containers", hint=hint) from e


def _is_of(pod: Pod, labels: dict[str, str]) -> bool:
    names = {container.name for container in pod.containers}
    return (
        labels[f"{_LABEL}pod.namespace"] == pod.namespace
        and labels[f"{_LABEL}pod.name"].startswith(f"{pod.name}-")
        and labels[f"{_LABEL}container.name"] in names
    )
