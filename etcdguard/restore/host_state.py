"""Where a host stands in a plan, told from its journal alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ["HostPhase", "HostState", "fold"]

HostPhase = Literal[
    "untouched", "staged", "stopped", "swapping", "swapped", "started", "proven", "reopened", "cleaned"
]


@dataclass(frozen=True)
class HostState:
    """What has happened on one host; each field survives crashes because an event stands behind it."""

    staging: bool = False
    """There may be staged directories, whole or not."""
    mounts: tuple[str, ...] | None = None
    """Of this plan's directories those that were mount points when staging began; None: it did not."""
    staged: bool = False
    """They are whole and checked."""
    members: tuple[str, ...] | None = None
    """The members that the plan restores here; None where nothing was staged, or by an older etcdguard."""
    was_running: Mapping[str, bool] | None = None
    """The services we have stopped, or were about to; each with whether it ran before."""
    old: Mapping[str, bool] | None = None
    """The swap has begun; of each place whether an old directory stood there."""
    swapped: bool = False
    started: bool = False
    ever_started: bool = False
    """Members of this plan have run here, and its token is spent, whatever came after."""
    proven: bool = False
    reopened: bool = False
    cleaned: bool = False

    @property
    def active(self) -> bool:
        """Whether another plan must keep away from this host."""
        return (self.staging or self.was_running is not None or self.old is not None) and not self.reopened

    @property
    def phase(self) -> HostPhase:
        """In one word, for people."""
        words: tuple[tuple[bool, HostPhase], ...] = (
            (self.cleaned, "cleaned"),
            (self.reopened, "reopened"),
            (self.proven, "proven"),
            (self.started, "started"),
            (self.swapped, "swapped"),
            (self.old is not None, "swapping"),
            (self.was_running is not None, "stopped"),
            (self.staged, "staged"),
        )
        return next((word for holds, word in words if holds), "untouched")


def fold(events: Iterable[Mapping[str, Any]]) -> HostState:
    """The state after these events, oldest first; unknown ones change nothing."""
    state = HostState()
    for event in events:
        state = _after(state, event)
    return state


def _after(state: HostState, event: Mapping[str, Any]) -> HostState:
    name = event["event"]
    if name == "stopping":
        # The first word counts: later runs find stopped what we have stopped.
        return replace(state, was_running={**event["running"], **(state.was_running or {})})
    if name == "swapping":
        return replace(state, old=event["old"])
    if name == "staging":
        members = event.get("members")
        return replace(
            state,
            staging=True,
            staged=False,
            members=None if members is None else tuple(members),
            mounts=tuple(event.get("mounts", ())),
        )
    if name == "rolled-back":
        # Where the operator starts etcd, he may have done so once we were through.
        ever = state.ever_started or state.reopened
        return replace(state, old=None, swapped=False, started=False, ever_started=ever, reopened=False)
    changes: dict[str, dict[str, Any]] = {
        "staged": {"staged": True},
        "swapped": {"swapped": True},
        "starting": {"started": True, "ever_started": True},
        "proven": {"proven": True},
        "reopened": {"reopened": True},
        "resumed": {"was_running": None},
        "discarded": {"staging": False, "staged": False, "members": None, "mounts": None},
        "cleaned": {"cleaned": True},
    }
    return replace(state, **changes.get(name, {}))
