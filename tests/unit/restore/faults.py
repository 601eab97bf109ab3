"""Faults of a restore over hosts: on which host, in which step or at which change on disk."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.restore.fleet import lost

FORWARD = ("stage", "close", "quiesce", "barrier", "swap", "gate", "start")
"""The steps before the proof; what goes wrong in them is undone."""


def at(
    host: str, step: str, when: str, error: Callable[[], BaseException]
) -> Callable[[str, str, str], None]:
    """An error the first time that the host comes there."""
    met: list[tuple[str, ...]] = []

    def fault(*place: str) -> None:
        if place == (host, step, when) and not met:
            met.append(place)
            raise error()

    return fault


def down(host: str, step: str, when: str) -> Callable[[str, str, str], None]:
    """From then on the host does not answer."""
    gone: list[str] = []

    def fault(*place: str) -> None:
        if place == (host, step, when):
            gone.append(host)
        if place[0] in gone:
            raise lost()

    return fault


def fails_and_loses(host: str, failed: str, step: str) -> Callable[[str, str, str], None]:
    """After it has failed in one step, the host is lost before another of the way back."""
    met: list[str] = []

    def fault(*place: str) -> None:
        if place == (host, failed, "after"):
            met.append(failed)
            raise lost()
        if met and (place[:2] == (host, step) or ("gone" in met and place[0] == host)):
            met.append("gone")
            raise lost()

    return fault


_DISK_CHANGES = (os, "fsync"), (Path, "rename"), (Path, "unlink"), (os, "rmdir"), (Path, "touch")


def killed_at(run: Callable[[], object], limit: int) -> bool:
    """Run in a process that dies at its ``limit``-th change on disk; whether it came that far."""
    pid = os.fork()
    if pid == 0:
        count = itertools.count(1)

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def step(*args: Any, **options: Any) -> Any:
                if next(count) == limit:
                    os._exit(9)
                return original(*args, **options)

            return step

        for owner, name in _DISK_CHANGES:
            setattr(owner, name, counted(getattr(owner, name)))
        try:
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
