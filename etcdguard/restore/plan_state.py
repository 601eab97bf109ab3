"""Where the orchestrator stands in a plan, told from its journal alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from etcdguard.clock import instant

__all__ = ["PlanState", "fold"]


@dataclass(frozen=True)
class PlanState:
    """What has happened over all hosts."""

    phase: str = ""
    """The phase that began last, for people; ``rolling back``, ``rolled back`` and ``finished`` too."""
    begun: bool = False
    """Hosts may have been changed."""
    swapping: bool = False
    """Directories may have been swapped, on some hosts or all."""
    in_place: bool = False
    """All hosts have the new directories."""
    started: bool = False
    """Members of the plan may have run."""
    putting_back: bool = False
    """Directories may have been put back, on some hosts or all."""
    proven: bool = False
    finished: bool = False
    stopped_at: datetime | None = None
    """When the first service was about to be stopped."""
    members: tuple[Mapping[str, Any], ...] = ()
    """The restored members, once they are in place."""
    proof: Mapping[str, Any] | None = None

    @property
    def must_go_back(self) -> bool:
        """Whether going on is out of the question: what was put back and has run before never runs again."""
        return self.started and self.putting_back


def fold(events: Iterable[Mapping[str, Any]]) -> PlanState:
    """The state after these events, oldest first; unknown ones change nothing."""
    state = PlanState()
    for event in events:
        state = _after(state, event)
    return state


def _after(state: PlanState, event: Mapping[str, Any]) -> PlanState:
    name = event["event"]
    if name == "begin":
        return _begun(state, event["phase"], instant(event["at"]))
    if name == "in-place":
        return replace(state, in_place=True, members=tuple(event["members"]))
    if name == "proven":
        return replace(state, proven=True, proof=event["proof"])
    if name == "rolling-back":
        return replace(state, phase="rolling back", in_place=False)
    if name == "putting-back":
        return replace(state, putting_back=True)
    if name == "put-back":
        return replace(state, swapping=False)
    if name == "rolled-back":
        return PlanState(phase="rolled back")
    if name == "finished":
        return replace(state, phase="finished", finished=True)
    return state


def _begun(state: PlanState, phase: str, at: datetime) -> PlanState:
    stops = phase in ("quiesce", "barrier") and state.stopped_at is None
    return replace(
        state,
        phase=phase,
        begun=state.begun or phase == "stage",
        swapping=state.swapping or phase == "swap",
        started=state.started or phase == "start",
        stopped_at=at if stops else state.stopped_at,
    )
