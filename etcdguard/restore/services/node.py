"""The services of one member's host, made from what the plan says about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from etcdguard.restore.machine import LOCAL, Machine
from etcdguard.restore.plan import SourceMember
from etcdguard.restore.quorum import answers
from etcdguard.restore.services.base import CommandRunner, Patience, Service, run_command
from etcdguard.restore.services.processes import Processes
from etcdguard.restore.services.static_pod import StaticPodService
from etcdguard.restore.services.systemd import Kubelet, SystemdService

__all__ = ["NodeServices", "Surroundings", "services_for"]

_PATIENCE = 120.0
_CRICTL_PLACES = "/usr/local/bin:/usr/bin:/opt/bin"
"""Where crictl is, though a login over ssh may not have it on its PATH."""


@dataclass(frozen=True)
class NodeServices:
    """What is stopped and started for a member on its host."""

    etcd: Service
    control_plane: tuple[Service, ...]
    """What uses etcd, in the order in which to stop it, and to start it again: kube-apiserver first."""
    kubelet: Kubelet | None
    """To be restarted at the very end; None where that was not asked for."""

    @property
    def all(self) -> tuple[Service, ...]:
        """Everything, in the order in which to stop it."""
        return (*self.control_plane, self.etcd)


@dataclass(frozen=True)
class Surroundings:
    """What services need of this machine; ``here`` is the real one."""

    patience: Patience
    crictl: str | None
    run: CommandRunner = run_command
    processes: Processes = field(default_factory=Processes)
    machine: Machine = LOCAL
    drop_ins: Path = Path("/etc/systemd/system")

    @classmethod
    def here(
        cls, path: str, *, monotonic: Callable[[], float], sleep: Callable[[float], None]
    ) -> Surroundings:
        """``path`` is the PATH to look for crictl in."""
        crictl = shutil.which("crictl", path=f"{path}:{_CRICTL_PLACES}")
        return cls(Patience(_PATIENCE, monotonic, sleep), crictl)


def services_for(member: SourceMember, plan_id: str, around: Surroundings) -> NodeServices | None:
    """The services of that member, on its host; None when the operator stops and starts etcd."""
    if member.service is None:
        return None
    urls = (*member.peer_urls, *member.client_urls)
    etcd = _service(
        member.service.name, plan_id, around, lambda: any(answers(url, around.machine) for url in urls)
    )
    clients = [_service(name, plan_id, around, lambda: False) for name in member.clients.names]
    return NodeServices(
        etcd=etcd,
        control_plane=tuple(
            client
            for client in clients
            # The default names what kubeadm would have put there; not every host has all of it.
            if member.control_plane is not None or not isinstance(client, StaticPodService) or client.exists
        ),
        kubelet=Kubelet(around.run) if member.clients.restart_kubelet else None,
    )


def _service(
    name: str, plan_id: str, around: Surroundings, is_open: Callable[[], bool]
) -> SystemdService | StaticPodService:
    """A path is a manifest's; no unit's name contains a slash."""
    if "/" in name:
        return StaticPodService(
            Path(name),
            plan_id,
            run=around.run,
            patience=around.patience,
            processes=around.processes,
            crictl=around.crictl,
            is_open=is_open,
        )
    return SystemdService(
        name,
        plan_id,
        run=around.run,
        patience=around.patience,
        processes=around.processes,
        drop_ins=around.drop_ins,
    )
