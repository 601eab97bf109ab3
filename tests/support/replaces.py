"""What the tests of a replacement share: etcd processes as a service, and crashes at chosen moments."""

from __future__ import annotations

from collections.abc import Sequence

from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.local import LocalCluster
from tests.support.faulty_store import SimulatedCrash

__all__ = ["ClusterService", "CrashAtPhase", "CrashingAdmin"]


class ClusterService:
    """One member of a LocalCluster as its host's service manager would run it, with flags of its own."""

    def __init__(self, cluster: LocalCluster, name: str, *flags: str) -> None:
        self._cluster = cluster
        self._flags = flags
        self.name = name
        self.calls: list[str] = []

    def check(self) -> None:
        """See Service."""

    def is_running(self) -> bool:
        """See Service."""
        return self._cluster.pid(self.name) is not None

    def stop(self) -> None:
        """See Service."""
        self.calls.append("stop")
        self._cluster.kill(self.name)

    def release(self) -> None:
        """See Service."""

    def start(self) -> None:
        """See Service."""
        self.calls.append("start")
        self._cluster.start_member(self.name, *self._flags)


class CrashAtPhase:
    """A progress sink in which the process dies as a phase begins; without a name it only remembers them."""

    def __init__(self, deadly: str | None = None) -> None:
        self._deadly = deadly
        self.phases: list[str] = []

    def phase(self, name: str, total_bytes: int | None) -> None:
        """See Progress."""
        self.phases.append(name)
        if name == self._deadly:
            raise SimulatedCrash(name)

    def advance(self, count: int) -> None:
        """See Progress."""

    def done(self) -> None:
        """See Progress."""


class CrashingAdmin(AdminClient):
    """A client whose process dies after etcd has carried out ``deadly``, and before the answer is known."""

    deadly: str | None = None

    def add_learner(self, endpoint: str, peer_urls: Sequence[str]) -> str:
        """See AdminClient."""
        member_id = super().add_learner(endpoint, peer_urls)
        self._die_after("add")
        return member_id

    def remove_member(self, endpoint: str, member_id: str) -> None:
        """See AdminClient."""
        super().remove_member(endpoint, member_id)
        self._die_after("remove")

    def promote_member(self, endpoint: str, member_id: str) -> None:
        """See AdminClient."""
        super().promote_member(endpoint, member_id)
        self._die_after("promote")

    def _die_after(self, step: str) -> None:
        if step == self.deadly:
            raise SimulatedCrash(f"after {step}")
