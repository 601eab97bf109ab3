"""A static pod: the kubelet runs it as long as its manifest is in the manifests directory.

It is stopped by moving the manifest out, into a directory beside the manifests directory: the kubelet reads
every file inside, whatever its name.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.files import translating
from etcdguard.restore.services import crictl
from etcdguard.restore.services.base import CommandRunner, Patience
from etcdguard.restore.services.pod import Pod, read_pod
from etcdguard.restore.services.processes import Processes
from etcdguard.storage.durable import sync

__all__ = ["StaticPodService"]

_ASIDE = "etcdguard-"


class StaticPodService:
    """One pod, taken out for one plan.

    ``crictl`` is that program's path, or None; ``is_open`` says whether one of the pod's ports is open.
    """

    def __init__(
        self,
        manifest: Path,
        plan_id: str,
        *,
        run: CommandRunner,
        patience: Patience,
        processes: Processes,
        crictl: str | None,
        is_open: Callable[[], bool],
    ) -> None:
        self.name = str(manifest)
        self._run = run
        self._patience = patience
        self._processes = processes
        self._crictl = crictl
        self._is_open = is_open
        # The kubelet may have been given a link to its directory; a rename must stay on one file system.
        folder = manifest.parent.resolve()
        self._manifest = folder / manifest.name
        self._aside = folder.parent / f"{_ASIDE}{plan_id}" / manifest.name

    @property
    def exists(self) -> bool:
        """Whether this host has the pod, running or taken out for this plan."""
        return self._manifest.exists() or self._aside.exists()

    def check(self) -> None:
        """Raise Refused unless the manifest is there once, can be moved, and tells its processes."""
        where = self._where()
        if where.is_symlink():
            raise Refused(f"{where} is a symbolic link", hint=f"name the file itself: {where.resolve()}")
        pod = read_pod(where)
        folder = self._manifest.parent
        if folder.stat().st_dev != folder.parent.stat().st_dev:
            raise Refused(
                f"{folder} is a mount point, so manifests cannot be moved out of it",
                hint="stop and start etcd by hand: take `service` out of the member's configuration",
            )
        unknown = [container.name for container in pod.containers if not container.command]
        if unknown and self._crictl is None:
            raise Refused(
                f"{where} gives no command for {', '.join(unknown)}, so nothing tells when it has ended",
                hint="install crictl on that host, or write the command into the manifest",
            )
        self._has_container(pod)

    def is_running(self) -> bool:
        """Whether the kubelet has its manifest, or one of its containers runs all the same."""
        where = self._where()
        return where == self._manifest or self._has_container(read_pod(where))

    def stop(self) -> None:
        """Take the manifest out and wait until no container is left and its ports are closed."""
        pod = read_pod(self._where())
        if self._manifest.exists():
            with translating(f"move {self._manifest} to {self._aside}"):
                if not self._aside.parent.exists():
                    self._aside.parent.mkdir(mode=0o700)
                    sync(self._aside.parent.parent)
                _move(self._manifest, self._aside)
        if not self._patience.until(lambda: not (self._has_container(pod) or self._is_open())):
            raise EtcdGuardError(
                f"{pod.name} still runs {self._patience.seconds:g} s after its manifest was taken out",
                hint="does the kubelet run on that host? `systemctl status kubelet`, then run this again",
            )

    def release(self) -> None:
        """Put the manifest back."""
        if self._where() == self._aside:
            with translating(f"move {self._aside} to {self._manifest}"):
                _move(self._aside, self._manifest)
        with suppress(OSError):  # other manifests are still in it, or it is gone
            self._aside.parent.rmdir()

    def start(self) -> None:
        """Put the manifest back and wait until the kubelet has started a container."""
        self.release()
        pod = read_pod(self._manifest)
        if not self._patience.until(lambda: self._has_container(pod)):
            raise EtcdGuardError(
                f"the kubelet has not started {pod.name} within {self._patience.seconds:g} s",
                hint="see why with `journalctl -u kubelet` on that host, then run this again",
            )

    def _has_container(self, pod: Pod) -> bool:
        # Both are asked: containers may be named otherwise than expected, and commands may be rewritten.
        if self._crictl is not None and crictl.runs_any(self._crictl, pod, self._run):
            return True
        return any(
            container.runs_as(argv)
            for argv in self._processes.command_lines()
            for container in pod.containers
        )

    def _where(self) -> Path:
        """Where the manifest is: in place or taken out for this plan; raises Refused for neither and both."""
        found = [path for path in (self._manifest, self._aside) if path.exists()]
        if len(found) == 1:
            return found[0]
        if found:
            raise Refused(
                f"{self._manifest} and {self._aside} both exist",
                hint="find out who wrote the first since then; keep the right one there, move the other away",
            )
        for other in sorted(self._aside.parent.parent.glob(f"{_ASIDE}*/{self._manifest.name}")):
            raise Refused(
                f"another restore, {other.parent.name.removeprefix(_ASIDE)}, has taken out {self._manifest}",
                hint="finish that one, or take it back with `etcdguard restore rollback`",
            )
        raise Refused(
            f"there is no {self._manifest} on this host",
            hint="check the manifests in the configuration's members",
        )


def _move(source: Path, target: Path) -> None:
    source.rename(target)
    sync(target.parent)
    sync(source.parent)
