"""Faults at the boundaries of a restore's phases: the part of the campaign that every change is tested with.

All hosts end restored or untouched, as etcdguard said they would, and never in between; see tests/campaign.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.campaign.combination import Combination, combinations, perform
from tests.campaign.world import DISK, World, world
from tests.support.etcd_versions import EtcdPrograms
from tests.support.hosts import HostSet
from tests.support.hosts_etcd import HostPki

pytestmark = pytest.mark.slow

_KILLED, _CUT_OFF, _CTRL_C = "orchestrator SIGKILLed", "sshd killed", "Ctrl-C"

SELECTED = [
    *(Combination(_KILLED, phase, "run") for phase in ("quiesce", "swap", "start")),
    *(Combination(_KILLED, phase, "rollback") for phase in ("stage", "gate", "rollback")),
    Combination(_CUT_OFF, "gate", "rollback"),
    Combination(_CUT_OFF, "start", "run"),
    Combination(_CTRL_C, "swap", "run"),
    Combination("host rebooted hard", "barrier", "run"),
    Combination("wrong key on a host", "stage", "run"),
    Combination("disk full", "swap", "run"),
    Combination("objects corrupted", "quiesce", "run"),
]


class Stage:
    """The hosts, and on them a world that serves all tests until one of them fails."""

    def __init__(self, hosts: HostSet, share: Path) -> None:
        self.hosts = hosts
        self._share = share
        self._stack = ExitStack()
        self._world: World | None = None

    def set(self, pki: HostPki, programs: EtcdPrograms) -> World:
        """The world, made anew where there is none."""
        if self._world is None:
            made = world(self.hosts, pki, programs, self._share / "etcdguard")
            self._world = self._stack.enter_context(made)
        return self._world

    def clear(self) -> None:
        """Take the world down."""
        self._world = None
        self._stack.close()


@pytest.fixture(scope="module")
def stage(hosts_available: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    share = tmp_path_factory.mktemp("campaign")
    with HostSet(3, disk=DISK, shared=[share]) as hosts:
        stage = Stage(hosts, share)
        yield stage
        stage.clear()


@pytest.mark.parametrize("combination", SELECTED, ids=str)
def test_every_host_ends_restored_or_untouched(
    stage: Stage, host_pki: HostPki, etcd_binaries: EtcdPrograms, combination: Combination
) -> None:
    here = stage.set(host_pki, etcd_binaries)
    try:
        perform(here, combination)
    except BaseException:
        stage.clear()
        raise


def test_what_is_selected_is_of_the_campaign() -> None:
    assert len(combinations()) >= 40
    assert not set(SELECTED) - set(combinations())
    assert len(SELECTED) == len(set(SELECTED))
