"""What is read from a pod's manifest, and which processes are recognised by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.services.pod import Container, Pod, read_pod

_KUBEADM = """\
apiVersion: v1
kind: Pod
metadata:
  name: etcd
  namespace: kube-system
spec:
  containers:
  - command:
    - etcd
    - --data-dir=/var/lib/etcd
    - --name=cp1
    args: [--quota-backend-bytes, 8589934592]
    image: registry.k8s.io/etcd:3.5.21-0
    name: etcd
  - name: sidecar
    image: example.org/sidecar
    args: [--verbose]
"""
_ETCD = Container("etcd", ("etcd", "--data-dir=/var/lib/etcd", "--name=cp1"))
_SCHEDULER = Container("kube-scheduler", ("kube-scheduler", "--bind-address=127.0.0.1"))


def test_the_facts_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "etcd.yaml").write_text(_KUBEADM)

    assert read_pod(tmp_path / "etcd.yaml") == Pod(
        name="etcd",
        namespace="kube-system",
        containers=(
            Container("etcd", (*_ETCD.command, "--quota-backend-bytes", "8589934592")),
            Container("sidecar", ()),
        ),
    )


@pytest.mark.parametrize(
    ("container", "line", "expected"),
    [
        (_ETCD, "etcd --data-dir=/var/lib/etcd --name=cp1", True),
        (_ETCD, "/usr/local/bin/etcd --name=x --data-dir /var/lib/etcd", True),
        (_ETCD, "/bin/sh /usr/local/bin/etcd --data-dir=/var/lib/etcd", True),
        (_ETCD, "etcd --data-dir=/var/lib/etcd-events --name=cp1", False),
        (_ETCD, "etcd --name=cp1", False),
        (_ETCD, "etcd --name=cp1 --data-dir", False),
        (_ETCD, "etcdutl defrag --data-dir=/var/lib/etcd", False),
        (_SCHEDULER, "/usr/bin/kube-scheduler --bind-address=127.0.0.1", True),
        (_SCHEDULER, "python3 /usr/bin/kube-scheduler --bind-address=127.0.0.1", True),
        (_SCHEDULER, "kube-scheduler --bind-address=10.0.0.1", False),
        (_SCHEDULER, "vi kube-scheduler", False),
        (Container("sidecar", ()), "sidecar", False),
    ],
)
def test_processes_are_known_by_program_and_data_directory_or_all_arguments(
    container: Container, line: str, expected: bool
) -> None:
    assert container.runs_as(tuple(line.split())) is expected


@pytest.mark.parametrize(
    "content",
    ["", "kind: Deployment", "kind: Pod", "- a", "a: [", _KUBEADM.replace("containers:", "container:"), "\0"],
)
def test_anything_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.yaml").write_text(content)

    with pytest.raises(Refused, match=r"x\.yaml is not a pod's manifest"):
        read_pod(tmp_path / "x.yaml")


@given(st.binary(max_size=60) | st.text(alphabet="kind: Pod\nmetaspcr{}[]-", max_size=60).map(str.encode))
def test_no_bytes_bring_it_down(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("pod") / "x.yaml"
    file.write_bytes(content)

    with pytest.raises(Refused):
        read_pod(file)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(EtcdGuardError, match=r"cannot read .*: Is a directory"):
        read_pod(tmp_path)
