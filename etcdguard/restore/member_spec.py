"""A member as it is described before there is a plan."""

from __future__ import annotations

from dataclasses import dataclass

from etcdguard.restore.plan import ControlPlaneSpec, ServiceSpec

__all__ = ["MemberSpec"]


@dataclass(frozen=True)
class MemberSpec:
    """A member as the configuration describes it. ``data_dir`` None means etcd's usual place."""

    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...] = ()
    host: str | None = None
    ssh: str | None = None
    """What the ssh client is given to reach it, where that is not ``host``."""
    data_dir: str | None = None
    wal_dir: str | None = None
    service: ServiceSpec | None = None
    control_plane: ControlPlaneSpec | None = None
