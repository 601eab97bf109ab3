"""What the golden plan is made of: a backup, a configuration and choices that leave nothing out.

``python -m tests.unit.restore.golden_plan`` writes the golden file anew after a change that was meant.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from etcdguard.etcd.tools import Tool
from etcdguard.model import HashKV
from etcdguard.restore.plan import ControlPlaneSpec, RestorePlan, ServiceSpec, write_plan
from etcdguard.restore.planner import Choices, MemberSpec, make_plan
from tests.support.restores import NOW, make_manifest, make_members

__all__ = ["GOLDEN", "plan"]

GOLDEN = Path(__file__).parents[2] / "golden" / "restore" / "plan.json"


def plan() -> RestorePlan:
    """Kubernetes; systemd, a static pod and no service; one member moves, one is left out, one learns."""
    members = make_members("m1", "m2", "m3", "m4", "m5", scheme="https")
    learner = members[4].model_copy(update={"is_learner": True})
    manifest = make_manifest((*members[:4], learner), kubernetes=True).model_copy(
        update={"hash_kv": HashKV(revision=5033, hash=77, compact_revision=1)}
    )
    systemd = ServiceSpec(kind="systemd", unit="etcd.service", user="etcd", group="etcd")
    pod = ServiceSpec(kind="static-pod", manifest="/etc/kubernetes/manifests/etcd.yaml")
    clients = ControlPlaneSpec(units=("k3s.service", "kube-apiserver.service"), restart_kubelet=True)
    m1, m2, *others = (MemberSpec(one.name, one.peer_urls, one.client_urls) for one in members)
    m1 = replace(m1, host="10.0.0.1", ssh="root@cp1", data_dir="/data/etcd/", service=systemd)
    m1 = replace(m1, control_plane=clients)
    m2 = replace(m2, wal_dir="/wal/etcd", service=pod)
    choices = Choices(here=frozenset({"m3"}), moves={"10.0.0.2": "10.0.0.22"}, leave_out=frozenset({"m4"}))
    return make_plan(
        manifest,
        [m1, m2, *others],
        choices,
        Tool(Path("/opt/etcd/etcdutl"), (3, 5, 21), "etcdutl"),
        node="cp3",
        now=NOW,
        token_hex=lambda count: "ab" * count,
    )


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_bytes(write_plan(plan()))
