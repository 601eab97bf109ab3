"""A restore over hosts whose orchestrator is killed can go on or go back."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdguard.errors import Refused
from tests.unit.restore.faults import FORWARD, killed_at
from tests.unit.restore.fleet import Fleet


def _killed(fleet: Fleet, step: str, when: str) -> None:
    """Run in a process that dies on the spot when the last host has come to that step."""
    pid = os.fork()
    if pid == 0:
        fleet.fault = _dies(step, when)
        try:
            fleet.run()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9


def _dies(step: str, when: str) -> Callable[[str, str, str], None]:
    def fault(*place: str) -> None:
        if place == ("cp2", step, when):
            os._exit(9)

    return fault


@pytest.mark.parametrize("then", ["run", "roll_back"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [*FORWARD, "reopen"])
def test_a_killed_orchestrator_can_go_on_or_go_back(fleet: Fleet, step: str, when: str, then: str) -> None:
    before = fleet.picture()
    _killed(fleet, step, when)

    if then == "run":
        fleet.run()
        fleet.assert_restored()
    elif step == "reopen":
        with pytest.raises(Refused, match="proven"):
            fleet.roll_back()
    else:
        fleet.roll_back()
        assert fleet.picture() == before


@pytest.mark.parametrize("then", ["run", "roll_back"])
def test_killed_at_any_change_on_disk_it_can_go_on_or_go_back(tmp_path: Path, then: str) -> None:
    """The hosts die with the orchestrator: they are all in its process."""
    for limit in itertools.count(1, 3 if then == "run" else 4):
        fleet = Fleet.make(tmp_path / str(limit))
        before = fleet.picture()
        if not killed_at(fleet.run, limit):
            break
        if then == "run" or fleet.orchestrator().status()[0].proven:
            if not fleet.orchestrator().status()[0].finished:
                fleet.run()
            fleet.assert_restored()
        else:
            fleet.roll_back()
            assert fleet.picture() == before
    assert limit > 100, "there are that many changes"
