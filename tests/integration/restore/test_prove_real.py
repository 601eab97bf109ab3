"""The proofs against real clusters: restored, diverged, full, with logins."""

from __future__ import annotations

import secrets
import subprocess
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.model import HashKV
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.prove import CANARY_PREFIX, Proof, prove
from etcdguard.restore.services import Patience
from tests.integration.restore.conftest import Scene
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, Etcdctl, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version
from tests.support.load import write_history
from tests.support.restores import in_pieces
from tests.support.waiting import PLENTY


def _proofs(
    plan: RestorePlan,
    cluster: LocalCluster,
    recorded: HashKV | None,
    *,
    seconds: float = PLENTY,
    credentials: Credentials | None = None,
) -> dict[str, Proof]:
    options = ConnectionOptions(
        cluster.client_urls,
        command_timeout=60.0,
        user=None if credentials is None else credentials.user,
        password=None if credentials is None else SecretStr(credentials.password),
    )
    patience = Patience(seconds, time.monotonic, time.sleep)
    with AdminClient(options) as client:
        found = prove(plan, recorded, client, patience, nonce=secrets.token_hex(8))
    return {proof.name: proof for proof in found}


def _failed(proofs: dict[str, Proof]) -> list[str]:
    return [name for name, proof in proofs.items() if not proof.ok]


def _recorded(scene: Scene) -> HashKV:
    """What a backup would have noted in its manifest."""
    ((number, compacted),) = set(scene.hashes.values())
    return HashKV(hash=number, revision=scene.history.revision, compact_revision=compacted)


@each_etcd_version
def test_a_restored_cluster_is_proven_while_it_comes_up(scene: Scene) -> None:
    scene.cluster.stop()
    plan = scene.plan()
    scene.run(plan)
    scene.cluster.start_all()

    proofs = _proofs(plan, scene.cluster, _recorded(scene))

    assert _failed(proofs) == []
    assert list(proofs) == ["members", "leader", "revision", "hash", "alarms", "auth", "canary"]
    assert proofs["hash"].found.endswith("on all 3 and in the manifest")
    assert proofs["auth"].found.startswith("off")
    assert scene.etcdctl.run("get", "--prefix", "--keys-only", CANARY_PREFIX).strip() == ""

    written = scene.etcdctl.revision() - plan.revision
    assert written >= 2, "the canary is put and deleted, and again after an answer that was lost"
    again = _proofs(plan, scene.cluster, _recorded(scene))
    assert _failed(again) == []
    assert f"and {written} written since" in again["revision"].found


@pytest.mark.parametrize("etcd_binaries", ["3.6"], indirect=True)
def test_a_bump_is_proven_without_the_manifests_hash(scene: Scene) -> None:
    scene.cluster.stop()
    plan = scene.plan(bump=1_000_000)
    scene.run(plan)
    scene.cluster.start_all()

    proofs = _proofs(plan, scene.cluster, _recorded(scene))

    assert _failed(proofs) == []
    assert proofs["revision"].found == f"{plan.revision} as planned"
    assert "not comparable with the manifest's" in proofs["hash"].found


def test_the_cluster_as_it_was_is_not_the_one_planned(scene: Scene) -> None:
    proofs = _proofs(scene.plan(), scene.cluster, None, seconds=2.0)

    assert _failed(proofs) == ["members"]
    assert "not of the plan" in proofs["members"].found


def test_members_that_do_not_run_are_named(scene: Scene) -> None:
    scene.cluster.stop()
    plan = scene.plan()
    scene.run(plan)
    scene.cluster.start_member(scene.cluster.names[0])

    proofs = _proofs(plan, scene.cluster, None, seconds=4.0)

    assert "members" in _failed(proofs)
    for name in scene.cluster.names[1:]:
        assert f"{name} {scene.cluster.client_url(name)}: connection refused" in proofs["members"].found
    assert "canary" not in proofs


def test_one_member_restored_from_another_snapshot_is_found_out(
    scene: Scene, cluster_factory: ClusterFactory, etcd_binaries: EtcdPrograms, tmp_path: Path
) -> None:
    """The same revisions, the same ids, and other data: only the hashes tell."""
    other = cluster_factory(names=("other",))
    write_history(other)
    Etcdctl(etcd_binaries.etcdctl, other).run("put", "/only/here", "1")
    scene.etcdctl.run("put", "/only/there", "1")
    file = tmp_path / "other.db"
    save = [
        str(etcd_binaries.etcdctl.path),
        f"--endpoints={other.client_urls[0]}",
        "snapshot",
        "save",
        str(file),
    ]
    subprocess.run(save, env={}, check=True, capture_output=True)
    ours = tmp_path / "ours.db"
    save[1], save[-1] = f"--endpoints={scene.cluster.client_urls[0]}", str(ours)
    subprocess.run(save, env={}, check=True, capture_output=True)
    scene.cluster.stop()
    plan = scene.plan()
    first, second, third = scene.cluster.names
    scene.run(plan, first, second, fetch=lambda: in_pieces(ours.read_bytes()))
    scene.run(plan, third, fetch=lambda: in_pieces(file.read_bytes()))
    scene.cluster.start_all()

    proofs = _proofs(plan, scene.cluster, None)

    assert _failed(proofs) == ["hash"]
    assert proofs["hash"].found.startswith("not equal: ")


def test_a_cluster_out_of_space_is_proven_and_says_so(scene: Scene) -> None:
    scene.cluster.stop()
    plan = scene.plan()
    scene.run(plan)
    for name in scene.cluster.names:
        scene.cluster.start_member(name, f"--quota-backend-bytes={64 * 1024}")
    scene.cluster.wait_healthy()
    with pytest.raises(AssertionError, match="database space exceeded"):
        scene.etcdctl.run("put", "/big", "x" * 100_000)

    proofs = _proofs(plan, scene.cluster, None)

    assert _failed(proofs) == []
    assert "NOSPACE on " in proofs["alarms"].found
    assert "disarm" in proofs["alarms"].hint
    assert "writes wait" in proofs["canary"].found


def test_logins_are_seen_and_used(scene: Scene) -> None:
    scene.cluster.stop()
    plan = scene.plan()
    scene.run(plan)
    scene.cluster.start_all()
    scene.cluster.wait_healthy()
    root = Credentials("root", "correct-horse")
    enable_auth(scene.programs.etcdctl, scene.cluster, root)

    proofs = _proofs(plan, scene.cluster, None, credentials=root)
    assert _failed(proofs) == []
    assert proofs["auth"].found.startswith("on")

    proofs = _proofs(plan, scene.cluster, None, seconds=2.0)
    assert "requires authentication" in " ".join(proofs[name].found for name in _failed(proofs))
