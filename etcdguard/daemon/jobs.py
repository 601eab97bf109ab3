"""Which jobs a configuration asks for, and the command each of them is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from etcdguard.config import Config
from etcdguard.errors import ConfigError
from etcdguard.slots import Interval, Schedule

__all__ = ["CLUSTER_JOBS", "Job", "jobs_of"]

CLUSTER_JOBS = ("backup", "verify", "drill", "check", "defrag", "prune")
"""The jobs of the daemon that leads."""


@dataclass(frozen=True)
class Job:
    """One thing done again and again, by a command in a process of its own."""

    name: str
    argv: tuple[str, ...]
    """The command and its flags, without the program."""
    schedule: Schedule
    scope: Literal["cluster", "node"] = "cluster"
    """``cluster``: by the daemon that leads. ``node``: by every one."""
    catch_up: bool = True
    """Whether a slot that passed while no daemon ran is made up for."""
    timeout: timedelta = timedelta(hours=3)
    fenced: bool = False
    """Whether the command itself makes sure that a slot is done once; then it may run without the lock."""
    unavailable: str | None = None
    """Why it cannot run; None when it can."""


def jobs_of(config: Config, has_command: Callable[[Sequence[str]], bool]) -> tuple[Job, ...]:
    """Every job that has a schedule. ``has_command`` says whether this etcdguard has such a command.

    Raises ConfigError when nothing is scheduled.
    """
    daemon = config.daemon
    retention = config.retention
    wanted: list[tuple[str, Schedule | None, tuple[str, ...]]] = [
        ("backup", config.backup.schedule, ("backup", "--if-due")),
        ("verify", config.verify.data, ("verify", "latest", "--level", "data", "--if-any")),
        ("drill", config.verify.drill, ("verify", "latest", "--level", "drill", "--if-any")),
        ("check", config.checks.schedule, ("check", "cluster")),
        ("defrag", config.defrag.schedule, ("defrag",)),
        ("prune", None if retention is None else retention.schedule, ("prune", "--confirm")),
    ]
    found = [
        Job(
            name,
            argv,
            schedule,
            # A defragmentation blocks members: never at another time than it was asked for.
            catch_up=daemon.catch_up and name != "defrag",
            timeout=daemon.job_timeout,
            fenced=name == "backup",
            unavailable=None
            if has_command(_command(argv))
            else "this version of etcdguard has no such command",
        )
        for name, schedule, argv in wanted
        if schedule is not None
    ]
    if not found:
        raise ConfigError(
            "the daemon has nothing to do: no job has a schedule", hint="set backup.schedule, e.g. 1h"
        )
    every = Schedule((f"every {daemon.ship}",), (Interval(daemon.ship),))
    ship = Job("ship", ("backup", "--spooled"), every, scope="node", timeout=daemon.job_timeout)
    return (*found, ship)


def _command(argv: Sequence[str]) -> Sequence[str]:
    """The words that name the command: all before the first flag, of ``check`` two, else one."""
    return argv[:2] if argv[0] == "check" else argv[:1]
