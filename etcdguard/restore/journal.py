"""What has been done, on disk before it is relied on: lines of JSON, only ever appended, each made to last.

An event that announces a change is written before the change; one that reports it, after. A line that a power
cut tore was never relied on, and is passed over.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from etcdguard.errors import EtcdGuardError, Locked, UsageError
from etcdguard.storage.durable import make_folders, sync

__all__ = ["Journal", "exclusive", "plan_folder"]

_POLL = 0.1
_PLAN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")


def plan_folder(state_dir: Path, plan_id: str) -> Path:
    """Where the journals of a plan stand; raises UsageError for what is no plan's id."""
    if not _PLAN_ID.fullmatch(plan_id):
        raise UsageError(f"{plan_id!r} is not a plan's id", hint="`etcdguard restore status` lists the plans")
    return state_dir / plan_id


class Journal:
    """One file of events. The folder is made when the first one is written."""

    def __init__(self, path: Path, now: Callable[[], datetime]) -> None:
        self.path = path
        self._now = now

    def append(self, event: str, **facts: Any) -> None:
        """Write an event, for good; raises EtcdGuardError."""
        line = json.dumps({"at": self._now().isoformat(), "event": event, **facts}) + "\n"
        with _translating(self.path, "write"):
            make_folders(self.path.parent)
            new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                file.write((b"\n" if torn else b"") + line.encode())
                os.fsync(descriptor)
            if new:
                sync(self.path.parent)

    def events(self) -> tuple[dict[str, Any], ...]:
        """What was written, oldest first; nothing where there is no journal."""
        try:
            with _translating(self.path, "read"):
                lines = self.path.read_bytes().splitlines()
        except EtcdGuardError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return ()
            raise
        return tuple(_parsed(lines))


@contextmanager
def exclusive(path: Path, *, patience: float, doing: str) -> Iterator[None]:
    """Hold the lock file at ``path`` alone; raises Locked after ``patience`` seconds."""
    with _translating(path, "open"):
        make_folders(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(round(patience / _POLL)):
            if _locked(descriptor):
                break
            time.sleep(_POLL)
        else:
            if not _locked(descriptor):
                raise Locked(
                    f"{doing} is at work already: {path} is locked",
                    hint="wait until it has ended; `etcdguard restore status` shows what is under way",
                )
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parsed(lines: list[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # torn by a power cut, and so never relied on
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


@contextmanager
def _translating(path: Path, action: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise EtcdGuardError(
            f"cannot {action} {path}: {e.strerror or type(e).__name__}",
            hint="run as root, or set restore.state_dir to a directory of your own",
        ) from e
