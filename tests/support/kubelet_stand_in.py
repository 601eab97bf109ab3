#!/usr/bin/python3
"""Does with static pods what the kubelet does, as far as a restore of etcd meets it; runs inside test hosts.

Like the kubelet it takes every file in the manifests directory whose name has no leading dot, whatever its
ending: an ``etcd.yaml.bak`` there is a second pod. Of two manifests of one pod it runs one; when that goes,
the other starts. A manifest that changes makes a new pod. A container that ends is started again. A container
is told to end with SIGTERM and killed after the pod's grace period. Containers outlive a kubelet that is
stopped, and are found again by the next. Differences: a container is a process of the host, one a pod; it
starts again after one second, always; the directory is read every 0.2 s. Needs PyYAML.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

MANIFESTS = Path("/etc/kubernetes/manifests")
STATE = Path("/run/kubelet-stand-in")
LOGS = Path("/var/log/pods")

_SYNC_SECONDS = 0.2
_RESTART_SECONDS = 1.0
_DEFAULT_GRACE = 30.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Pod:
    """What a manifest asks for; ``uid`` follows from the manifest's file name and content."""

    name: str
    uid: str
    command: list[str]
    environment: dict[str, str]
    grace: float


@dataclass(frozen=True)
class Container:
    """A process that was started for a pod; ``started`` tells it from a later process of the same number."""

    name: str
    uid: str
    pid: int
    started: str
    grace: float

    def alive(self) -> bool:
        """Whether that very process still runs."""
        return _started(self.pid) == self.started


def read_manifests(folder: Path) -> dict[str, list[Pod]]:
    """The pods the folder asks for, by name; what is no manifest is reported on stderr and left out."""
    pods: dict[str, list[Pod]] = {}
    for file in sorted(folder.glob("[!.]*")):
        try:
            content = file.read_bytes()
            pod = parse_manifest(file.name, content)
        except IsADirectoryError:
            continue
        except (FileNotFoundError, ValueError, KeyError, TypeError, IndexError, yaml.YAMLError) as error:
            print(f"{file}: {error!r}", file=sys.stderr, flush=True)
            continue
        pods.setdefault(pod.name, []).append(pod)
    return pods


def parse_manifest(file_name: str, content: bytes) -> Pod:
    """The pod in a manifest of one container."""
    document: dict[str, Any] = yaml.safe_load(content)
    if document["kind"] != "Pod":
        raise ValueError(f"kind {document['kind']} is no Pod")
    metadata, spec = document["metadata"], document["spec"]
    container = spec["containers"][0]
    return Pod(
        name=f"{metadata.get('namespace', 'default')}_{metadata['name']}",
        uid=hashlib.sha256(file_name.encode() + b"\0" + content).hexdigest()[:32],
        command=[str(word) for word in [*container["command"], *container.get("args", [])]],
        environment={entry["name"]: str(entry.get("value", "")) for entry in container.get("env", [])},
        grace=float(spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE)),
    )


class Kubelet:
    """Brings what runs in line with the manifests, one small step a call."""

    def __init__(self, manifests: Path, state: Path, logs: Path) -> None:
        self._manifests = manifests
        self._state = state
        self._logs = logs
        self._own: list[subprocess.Popen[bytes]] = []
        self._told: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        state.mkdir(parents=True, exist_ok=True)
        self._running = {
            container.name: container
            for container in (Container(**json.loads(file.read_text())) for file in state.glob("*.json"))
        }

    def sync(self) -> None:
        """One look at the manifests and the processes."""
        self._own = [process for process in self._own if process.poll() is None]
        wanted = read_manifests(self._manifests)
        for name in sorted({*wanted, *self._running}):
            self._sync_pod(name, wanted.get(name, []))

    def _sync_pod(self, name: str, wanted: list[Pod]) -> None:
        container = self._running.get(name)
        if container is not None and not container.alive():
            self._forget(container)
        elif container is not None:
            if name in self._told or container.uid not in [pod.uid for pod in wanted]:
                self._stop(container)
        elif wanted and time.monotonic() >= self._ended.get(wanted[0].uid, 0.0) + _RESTART_SECONDS:
            self._start(wanted[0])

    def _start(self, pod: Pod) -> None:
        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{pod.name}.log").open("ab") as log:
            try:
                process = subprocess.Popen(
                    pod.command,
                    env={"PATH": _PATH, **pod.environment},
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            except OSError as error:
                print(f"{pod.name}: {error}", file=sys.stderr, flush=True)
                self._ended[pod.uid] = time.monotonic()
                return
        self._own.append(process)
        container = Container(pod.name, pod.uid, process.pid, _started(process.pid) or "", pod.grace)
        self._running[pod.name] = container
        scratch = self._state / f".{pod.name}"
        scratch.write_text(json.dumps(asdict(container)))
        scratch.replace(self._state / f"{pod.name}.json")
        print(f"{pod.name}: started {process.pid}", flush=True)

    def _stop(self, container: Container) -> None:
        told = self._told.get(container.name)
        try:
            if told is None:
                self._told[container.name] = time.monotonic()
                print(f"{container.name}: stopping {container.pid}", flush=True)
                os.kill(container.pid, signal.SIGTERM)
            elif time.monotonic() - told >= container.grace:
                os.killpg(container.pid, signal.SIGKILL)
        except ProcessLookupError:
            return  # ended just now: the next look finds out

    def _forget(self, container: Container) -> None:
        print(f"{container.name}: {container.pid} has ended", flush=True)
        if container.name not in self._told:
            self._ended[container.uid] = time.monotonic()
        self._told.pop(container.name, None)
        del self._running[container.name]
        (self._state / f"{container.name}.json").unlink()


def _started(pid: int) -> str | None:
    """When the process started, in the kernel's ticks; None when there is none or it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def main() -> None:
    """Run until told to end, leaving the containers alone."""
    MANIFESTS.mkdir(parents=True, exist_ok=True)
    kubelet = Kubelet(MANIFESTS, STATE, LOGS)
    while True:
        kubelet.sync()
        time.sleep(_SYNC_SECONDS)


if __name__ == "__main__":
    main()
