"""Daemons in simulated time: a clock that is moved by hand, commands that take no process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from etcdguard.daemon.runner import Result
from etcdguard.daemon.state import Role

__all__ = ["SimulatedClock", "SimulatedElection", "SimulatedJob", "SimulatedRunner"]


class SimulatedClock:
    """Both clocks of a machine; only ``set_wall`` moves one without the other."""

    def __init__(self, moment: datetime) -> None:
        self.wall = moment
        self.elapsed = 0.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.elapsed

    def advance(self, span: timedelta) -> None:
        self.wall += span
        self.elapsed += span.total_seconds()

    def set_wall(self, by: timedelta) -> None:
        self.wall += by


@dataclass
class SimulatedJob:
    """A command that runs until ``ends`` on the monotonic clock, or is told to end."""

    argv: tuple[str, ...]
    clock: SimulatedClock
    ends: float
    result: Result
    deaf: bool = False
    """Whether it ignores being asked to end."""
    told: list[str] = field(default_factory=list)
    """What it was told: ``end``, ``die``."""

    def poll(self) -> Result | None:
        if "die" in self.told:
            return Result(-9)
        if self.told and not self.deaf:
            return Result(130, error="interrupted")
        return self.result if self.clock.elapsed >= self.ends else None

    def terminate(self) -> None:
        self.told.append("end")

    def kill(self) -> None:
        self.told.append("die")


@dataclass
class SimulatedRunner:
    """Starts simulated commands; ``answer`` says how the next one ends, ``seconds`` how long it takes."""

    clock: SimulatedClock
    answer: Callable[[Sequence[str]], Result] = lambda argv: Result(0, {"outcome": "created"})
    seconds: float = 2.0
    deaf: bool = False
    started: list[SimulatedJob] = field(default_factory=list)

    def start(self, argv: Sequence[str]) -> SimulatedJob:
        ends = self.clock.elapsed + self.seconds
        job = SimulatedJob(tuple(argv), self.clock, ends, self.answer(argv), self.deaf)
        self.started.append(job)
        return job


@dataclass
class SimulatedElection:
    """An election whose result is set by hand."""

    now: Role = "leader"
    marks: dict[str, str] = field(default_factory=dict)
    """Shared between the elections of one cluster, as etcd would."""
    history: list[tuple[str, str]] = field(default_factory=list)
    """Every job and slot that was marked as done."""

    def role(self) -> Role:
        return self.now

    def holder(self) -> str | None:
        return None

    def problem(self) -> str | None:
        return "etcd is down" if self.now == "no_lock" else None

    def done(self, job: str) -> str | None:
        return self.marks.get(job)

    def mark_done(self, job: str, slot: str) -> None:
        self.marks[job] = slot
        self.history.append((job, slot))

    def close(self) -> None:
        self.now = "standby"
