"""Run a plan on this machine: preflight, stage, gate, swap, gate, record; or leave everything as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from etcdguard.clock import Clock
from etcdguard.errors import EtcdGuardError, UsageError
from etcdguard.restore.environment import Environment, Overrides
from etcdguard.restore.gate import check_ids
from etcdguard.restore.plan import PlannedMember, RestorePlan
from etcdguard.restore.preflight import check_ready, check_stopped, raise_all
from etcdguard.restore.result import RestoredMember, RestoreResult, event_facts, restored_member
from etcdguard.restore.stage import discard, stage
from etcdguard.restore.swap import occupied, put, put_back

__all__ = ["RestoreResult", "RestoredMember", "run"]


def run(
    plan: RestorePlan,
    names: Sequence[str],
    overrides: Overrides,
    environment: Environment,
) -> RestoreResult:
    """Restore the named members of the plan on this machine. etcd must be stopped, and is not started.

    Raises what preflight finds before anything is changed. A failure or an interrupt after that puts every
    old directory back, removes what was staged, and raises. What is restored stays, also when it cannot be
    recorded.
    """
    if not names:
        raise UsageError("no member is named", hint="name those on this machine with --member NAME, or --all")
    members = [plan.member(name) for name in dict.fromkeys(names)]
    phases = _Phases(environment)
    started_at = environment.clock.now()
    try:
        with phases.timed("preflight"):
            findings = check_ready(plan, members, overrides, environment)
            raise_all([finding.error for finding in findings])
        _replace(plan, members, environment, phases)
        result = RestoreResult(
            plan_id=plan.id,
            backup_id=plan.backup_id,
            cluster_id=plan.cluster_id,
            revision=plan.revision,
            members=tuple(map(restored_member, members)),
            started_at=started_at,
            finished_at=environment.clock.now(),
            seconds=phases.seconds,
        )
        environment.progress.phase("record", None)
        try:
            environment.record(event_facts(plan, result))
        except EtcdGuardError as error:
            return result.model_copy(update={"record_problem": error.message})
    finally:
        environment.progress.done()
    return result


def _replace(
    plan: RestorePlan, members: Sequence[PlannedMember], environment: Environment, phases: _Phases
) -> None:
    """All of it, or nothing."""
    old: dict[str, bool] = {}
    try:
        with phases.timed("stage"):
            stage(plan, members, environment)
        with phases.timed("gate"):
            check_ids(plan, members, environment.read_wal, staged=True)
        with phases.timed("swap"):
            # Staging took a while: something may have started etcd again.
            raise_all(list(check_stopped(members, environment.machine)))
            old = occupied(members)
            put(members, old)
        with phases.timed("gate"):
            check_ids(plan, members, environment.read_wal, staged=False)
    except BaseException:
        if old:
            put_back(members, old)
        discard(members)
        raise


class _Phases:
    """Names the phases to whoever watches, and remembers how long each took, in seconds."""

    def __init__(self, environment: Environment) -> None:
        self._progress = environment.progress
        self._clock: Clock = environment.clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        self._progress.phase(name, None)
        began = self._clock.monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._clock.monotonic() - began
