"""What crictl is asked and how its answers are read, with a program that answers as crictl does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from etcdguard.errors import EtcdGuardError
from etcdguard.restore.services import run_command
from etcdguard.restore.services.crictl import runs_any
from etcdguard.restore.services.pod import Container, Pod
from tests.unit.restore.services.crictl_stand_in import FakeCrictl, container

_POD = Pod("etcd", "kube-system", (Container("etcd", ()),))


@pytest.fixture
def crictl(tmp_path: Path) -> FakeCrictl:
    return FakeCrictl(tmp_path)


def _runs(crictl: FakeCrictl) -> bool:
    return runs_any(str(crictl.path), _POD, run_command)


def test_a_running_container_of_the_pod(crictl: FakeCrictl) -> None:
    crictl.runs(container("kube-scheduler-cp1", "kube-scheduler"), container("etcd-cp1", "etcd"))

    assert _runs(crictl)
    assert crictl.asked() == ["ps", "--state", "Running", "--output", "json"]


@pytest.mark.parametrize(
    "other",
    [
        container("etcd-cp1", "etcd", namespace="default"),
        container("etcdkeeper-cp1", "etcd"),
        container("etcd-cp1", "debug"),
    ],
    ids=["namespace", "pod", "container"],
)
def test_containers_of_others(crictl: FakeCrictl, other: dict[str, Any]) -> None:
    crictl.runs(other)

    assert not _runs(crictl)


@pytest.mark.parametrize("answer", ['{"containers": []}', '{"containers": null}'])
def test_nothing_runs(crictl: FakeCrictl, answer: str) -> None:
    crictl.answers(answer)

    assert not _runs(crictl)


@pytest.mark.parametrize(
    "answer", ["", "CONTAINER  IMAGE", "[]", "{}", '{"containers": [{}]}', json.dumps({"containers": [1]})]
)
def test_an_answer_that_is_none_is_not_taken_for_nothing(crictl: FakeCrictl, answer: str) -> None:
    crictl.answers(answer)

    with pytest.raises(EtcdGuardError, match="answered something else"):
        _runs(crictl)


def test_a_runtime_that_is_down_is_not_taken_for_nothing(crictl: FakeCrictl) -> None:
    crictl.fails('time="2026-11-21" level=fatal msg="connection refused"')

    with pytest.raises(EtcdGuardError, match="connection refused") as error:
        _runs(crictl)

    assert "crictl ps" in error.value.hint
