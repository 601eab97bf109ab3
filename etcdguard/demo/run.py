"""Run the story in a folder of its own, time it, and leave nothing behind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from etcdguard.clock import Clock
from etcdguard.demo.proof import Proof
from etcdguard.demo.story import CONFIG, Step, Story
from etcdguard.errors import EtcdGuardError, Interrupted, UsageError
from etcdguard.etcd.local import LocalCluster
from etcdguard.interrupts import Interrupts
from etcdguard.restore.programs import Programs

__all__ = ["DemoReport", "PhaseReport", "run_demo"]


@dataclass(frozen=True)
class PhaseReport:
    """A step that was done: how long it took, and what came of it."""

    name: str
    seconds: float
    happened: str


@dataclass(frozen=True)
class DemoReport:
    """What happened. ``kept`` is the folder, where it was to be kept."""

    backup_id: str
    revision: int
    phases: tuple[PhaseReport, ...]
    proofs: tuple[Proof, ...]
    kept: Path | None

    @property
    def seconds(self) -> float:
        """From the first step to the last."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def failed(self) -> tuple[Proof, ...]:
        """Proofs that do not hold."""
        return tuple(one for one in self.proofs if not one.holds)


def run_demo(
    programs: Programs, base: Path | None, *, keep: bool, clock: Clock, tell: Callable[[str], None]
) -> DemoReport:
    """Run every step in a fresh folder below ``base`` (default: the system's), telling each beforehand.

    Must be called by the main thread. Whatever happens, also on SIGINT, SIGTERM and SIGHUP, every process is
    gone and, unless ``keep``, the folder removed when this returns or raises. A proof that fails is in the
    report; a step that fails raises its own error, named after the step.
    """
    folder = None
    try:
        with Interrupts() as interrupts, ExitStack() as cleanup:
            folder = _folder(base)
            cleanup.callback(_leave, folder, keep=keep, tell=tell)
            cluster = LocalCluster(programs.etcd, folder / "members")
            cleanup.callback(cluster.close)
            story = Story(folder, programs, cluster, interrupts)
            with interrupts.allowed():
                phases = tuple(_phases(story, interrupts, keep=keep, clock=clock, tell=tell))
            return DemoReport(
                backup_id=story.backup.id,
                revision=story.backup.manifest.snapshot.revision,
                phases=phases,
                proofs=story.proofs,
                kept=folder if keep else None,
            )
    except KeyboardInterrupt as e:
        there = folder is not None and folder.exists()
        left = f"{folder} is still there" if there else "nothing of it is left"
        raise Interrupted(
            "interrupted", hint=f"the demo's members are stopped and {left}; run it again"
        ) from e


def _phases(
    story: Story, interrupts: Interrupts, *, keep: bool, clock: Clock, tell: Callable[[str], None]
) -> Iterator[PhaseReport]:
    steps = story.steps()
    for number, step in enumerate(steps, 1):
        tell(f"[{number}/{len(steps)}] {step.name}: {step.doing}")
        began = clock.monotonic()
        with _named(step, keep=keep):
            happened = step.do()
        interrupts.check()
        yield PhaseReport(step.name, clock.monotonic() - began, happened)


@contextmanager
def _named(step: Step, *, keep: bool) -> Iterator[None]:
    """Say in which step an error arose, and how to get at the files its hint may speak of."""
    try:
        yield
    except EtcdGuardError as error:
        hint = error.hint if keep else f"{error.hint} (the demo's folder is gone; --keep keeps it)"
        raise type(error)(f"{step.name}: {error.message}", hint=hint) from error


def _folder(base: Path | None) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="etcdguard-demo-", dir=base)).resolve()
    except OSError as e:
        raise UsageError(
            f"no folder for the demo can be made: {e.filename}: {e.strerror}",
            hint="name a directory you may write to with --dir",
        ) from e


def _leave(folder: Path, *, keep: bool, tell: Callable[[str], None]) -> None:
    if keep:
        tell(f"kept: {folder} (try `etcdguard list --config {folder / CONFIG}`)")
        return
    try:
        shutil.rmtree(folder)
    except OSError as e:
        raise EtcdGuardError(
            f"{folder} cannot be removed: {e.filename}: {e.strerror}", hint=f"remove it: rm -rf {folder}"
        ) from e
