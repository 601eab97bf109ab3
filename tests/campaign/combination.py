"""One combination: a restore, a fault at a phase's beginning, what is done then, and how it ends."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from typing import Literal

from tests.campaign.faults import FAULTS, Fault
from tests.campaign.world import End, World
from tests.e2e.running import Done
from tests.e2e.stopping import Orchestrator

__all__ = ["PHASES", "Combination", "Outcome", "Then", "combinations", "perform"]

PHASES = (
    *("preflight", "stage", "quiesce", "barrier", "swap", "gate", "start", "prove", "reopen", "record"),
    *("backup", "rollback"),
)
"""All phases of a restore, and the way back, which here begins with Ctrl-C while the new members start."""

Then = Literal["run", "rollback"]

_UNSTOPPED = ("preflight", "stage")
"""While these last, nothing is stopped, and no directory is touched until swap begins."""
_UNSWAPPED = (*_UNSTOPPED, "quiesce", "barrier", "swap")
_KILLED = -signal.SIGKILL
_INTERRUPTED, _PARTIAL, _REFUSED, _WRONG_KEY = 130, 3, 15, 12
_LOSES_TOUCH = ("orchestrator SIGKILLed", "sshd killed")


@dataclass(frozen=True)
class Combination:
    """``then`` is what the operator does where etcdguard has not brought it to an end by itself."""

    fault: str
    phase: str
    then: Then

    def __str__(self) -> str:
        return f"{self.fault}, {self.phase}, {self.then}"


@dataclass(frozen=True)
class Outcome:
    """What etcdguard said, what was done then, and how it ended."""

    code: int
    said: str
    done: str
    end: End
    seconds: float


def combinations() -> list[Combination]:
    """Every fault at every boundary; where work can be cut off, both ways out."""
    return [
        Combination(fault, phase, then)
        for fault in FAULTS
        for phase in PHASES
        for then in (("run", "rollback") if fault in _LOSES_TOUCH else ("run",))
    ]


def perform(world: World, combination: Combination) -> Outcome:
    """Do it; raises AssertionError for a mixture, and for an end that etcdguard's word contradicts."""
    fault = FAULTS[combination.fault]
    world.begin()
    began = time.monotonic()
    with _started(world, combination.phase, fault) as orchestrator:
        _brought_to(world, combination.phase, orchestrator)
        try:
            fault.strikes(world, orchestrator)
            orchestrator.go_on()
            first = orchestrator.ended()
        finally:
            fault.is_mended(world)
    world.assert_no_mixture()
    taken, end = _followed_up(world, combination, first, orchestrator.plan)
    return Outcome(first.code, _said(first), taken, end, time.monotonic() - began)


def _started(world: World, phase: str, fault: Fault) -> Orchestrator:
    phases = ("prove", phase) if phase == "rollback" else (phase,)
    return world.start(*phases, own_identity=fault.own_identity)


def _brought_to(world: World, phase: str, orchestrator: Orchestrator) -> None:
    if phase == "rollback":
        assert orchestrator.stands(), orchestrator.ended().err
        orchestrator.send(signal.SIGINT)
        orchestrator.go_on()
    assert orchestrator.stands(), orchestrator.ended().err
    if phase in _UNSWAPPED:
        world.assert_untouched(runs=phase in (*_UNSTOPPED, "quiesce"))


def _followed_up(world: World, wanted: Combination, first: Done, plan: str | None) -> tuple[str, End]:
    fault = FAULTS[wanted.fault]
    spared = world.victim if fault.stops_victim else None
    if first.code == 0:
        return "nothing", _ended(world, "restored")
    if plan is None:
        world.assert_untouched(runs=True, without=spared)
        return _then_run(world, plan, fault)
    if _is_over(first):
        end = _ended(world, "untouched")
        if wanted.phase == "rollback":
            return "nothing", end
        if wanted.phase in _UNSTOPPED:
            world.assert_untouched(runs=True, without=spared)
        return _then_run(world, plan, fault)
    if wanted.then == "rollback":
        return _then_roll_back(world, plan, first)
    if first.code != _KILLED and "restore run --plan" not in first.problem[1]:
        return _refused_run_then_rollback(world, plan)
    return _then_run(world, plan, fault)


def _is_over(first: Done) -> bool:
    """Whether it says that nothing was changed, or that everything was put back."""
    if first.code == _INTERRUPTED:
        return "everything was put back" in first.err
    return first.code not in (_KILLED, _PARTIAL)


def _then_run(world: World, plan: str | None, fault: Fault) -> tuple[str, End]:
    taken = "run"
    if fault.wrong_key_sent:
        wrong = world.wrong_identity
        code = (world.restore(identity=wrong) if plan is None else world.go_on(plan, identity=wrong)).code
        assert code in (0, _WRONG_KEY)
        if code == 0:  # the key had done its work
            return "run with the wrong key", _ended(world, "restored")
        world.assert_untouched(runs=False)
        taken = f"run with the wrong key ({code}), run"
    done = world.restore() if plan is None else world.go_on(plan)
    if done.code == _REFUSED and "spends its token" in done.err:
        _ended(world, "untouched")
        taken, done = f"{taken} (15), new restore", world.restore()
    assert done.code == 0, done.err
    return taken, _ended(world, "restored")


def _refused_run_then_rollback(world: World, plan: str) -> tuple[str, End]:
    """The hint names no other run: then another run is refused, and the one way left is open."""
    refused = world.go_on(plan)
    assert refused.code == _REFUSED, refused.err
    assert f"restore rollback {plan}" in refused.problem[1]
    world.assert_no_mixture()
    done = world.roll_back(plan)
    assert done.code == 0, done.err
    return "run (15), rollback", _ended(world, "untouched")


def _then_roll_back(world: World, plan: str, first: Done) -> tuple[str, End]:
    done = world.roll_back(plan)
    if done.code == 0:
        return "rollback", _ended(world, "untouched")
    assert done.code == _REFUSED, done.err
    assert "proven and in service" in done.problem[0]
    assert first.code == _KILLED or "restore rollback" not in first.problem[1]
    done = world.go_on(plan)
    assert done.code == 0, done.err
    return "rollback (15), run", _ended(world, "restored")


def _ended(world: World, expected: End) -> End:
    end = world.end()
    assert end == expected, f"etcdguard speaks of {expected}, and it is {end}"
    return end


def _said(done: Done) -> str:
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    return errors[0] if errors else "-"
