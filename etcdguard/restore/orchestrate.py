"""A restore over all hosts: every phase on all of them before the next one begins, and one way back.

Nothing is stopped before every host has passed preflight and staged. Whatever fails or interrupts between
then and the proof of the new cluster puts every directory of every host back: only when all hosts can be
reached, and nothing is started again before all are back. Never a mixture. After the proof nothing is taken
back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from etcdguard.clock import Clock
from etcdguard.errors import EtcdGuardError, Interrupted, PartialFailure, Refused, UsageError
from etcdguard.restore.crew import Crew, Outcome, Watcher, failures
from etcdguard.restore.files import translating, write_private
from etcdguard.restore.journal import Journal, exclusive, plan_folder
from etcdguard.restore.plan import RestorePlan, write_plan
from etcdguard.restore.plan_state import PlanState, fold
from etcdguard.restore.result import ClusterResult, RestoredMember, event_facts
from etcdguard.storage.durable import make_folders

__all__ = ["After", "JOURNAL", "Orchestrator", "PLAN_FILE"]

JOURNAL = "orchestrator.jsonl"
PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class After:
    """What follows once members run. Each raises EtcdGuardError."""

    prove: Callable[[], Mapping[str, Any]]
    """See that the running cluster is the one planned, whole and writable; answers what was seen."""
    record: Callable[[Mapping[str, Any]], object]
    """Append a restore event with these facts to the audit trail."""
    backup: Callable[[], str] | None = None
    """Take a fresh backup and answer its id; None where nobody asked for one."""


class Orchestrator:
    """One plan and its hosts, with the journal that lets a later run go on or go back."""

    def __init__(
        self, plan: RestorePlan, crew: Crew, state_dir: Path, clock: Clock, watcher: Watcher, after: After
    ) -> None:
        served = [member.name for member in plan.members if member.service is not None]
        if served and len(served) < len(plan.members):
            raise UsageError(
                f"only {', '.join(served)} of the members have a service",
                hint="configure members[].service for all, or for none and stop and start etcd yourself",
            )
        self._plan = plan
        self._crew = crew
        self._clock = clock
        self._watcher = watcher
        self._after = after
        self._served = bool(served)
        self._state_dir = state_dir
        self._folder = plan_folder(state_dir, plan.id)
        self._journal = Journal(self._folder / JOURNAL, clock.now)
        self._seconds: dict[str, float] = {}

    # -- forward -----------------------------------------------------------------------------------------

    def run(self, connection: Mapping[str, Any]) -> ClusterResult:
        """Carry the plan out, or go on where an earlier run was cut off.

        ``connection`` is noted for later runs: how the hosts are reached, nothing secret. Raises what
        preflight finds, having changed nothing. A failure after that is raised once everything was put back,
        or as PartialFailure that says what to do where that was impossible. One after the proof is a
        PartialFailure too: the cluster is restored, and running the plan again goes on.
        """
        with self._alone():
            state = self._state()
            if state.finished:
                raise Refused(
                    f"plan {self._plan.id} has been carried out", hint="to restore once more, make a new plan"
                )
            if state.must_go_back:
                raise Refused(
                    f"plan {self._plan.id} has run, and some hosts may be put back already",
                    hint=f"put the others back too: {self._back_command}; then make a new plan",
                )
            started_at = self._clock.now()
            self._check(state)
            self._note(connection)
            if not state.proven:
                with self._all_or_nothing():
                    if not state.in_place:
                        self._put_in_place()
                    if self._served:
                        self._bring_up()
            with self._past_return():
                self._reopen()
                return self._wind_up(started_at)

    def _check(self, state: PlanState) -> None:
        with self._timed("preflight"):
            self._crew.hello()
            if not state.in_place:
                self._crew.preflight()

    def _note(self, connection: Mapping[str, Any]) -> None:
        """Before anything changes: what another run needs to go on or to go back."""
        plan_file = self._folder / PLAN_FILE
        if not plan_file.exists():
            with translating(f"make {self._folder}"):
                make_folders(self._folder)
            write_private(plan_file, [write_plan(self._plan)])
        # Last: whoever finds this event relies on the file.
        self._journal.append("plan", hosts=self._hosts(), connection=dict(connection))

    def _put_in_place(self) -> None:
        with self._phase("stage"):
            self._crew.all("stage")
        if self._served:
            with self._phase("quiesce"):
                self._crew.all("close")
                self._crew.all("quiesce")
        with self._phase("barrier"):
            self._crew.all("barrier")
        with self._phase("swap"):
            self._crew.all("swap")
        with self._phase("gate"):
            answers = self._crew.all("gate")
        members = [member for answer in answers.values() for member in answer.facts["members"]]
        self._journal.append("in-place", members=members)

    def _bring_up(self) -> None:
        with self._phase("start"):
            self._crew.all("start")
        with self._phase("prove"):
            proof = self._after.prove()
        self._journal.append("proven", proof=dict(proof))

    def _reopen(self) -> None:
        try:
            with self._phase("reopen"):
                self._crew.all("reopen", proven=self._served)
        except EtcdGuardError as error:
            raise PartialFailure(
                f"the cluster is restored, but not open on every host: {error.message}",
                hint=f"{error.hint}; then {self._go_on}",
            ) from error

    @contextmanager
    def _past_return(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt as interrupt:
            raise Interrupted(
                "interrupted: the cluster is restored, but not open on every host, or not recorded",
                hint=self._go_on,
            ) from interrupt
        except PartialFailure:
            raise
        except EtcdGuardError as error:
            raise PartialFailure(
                f"the cluster is restored, but this could not be noted: {error.message}",
                hint=f"{error.hint}; then {self._go_on}",
            ) from error

    def _wind_up(self, started_at: datetime) -> ClusterResult:
        """What is restored stays, also when it can be neither recorded nor backed up."""
        result = self._result(started_at)
        with self._phase("record"):
            try:
                self._after.record(event_facts(self._plan, result))
            except EtcdGuardError as error:
                result = result.model_copy(update={"record_problem": error.message})
        if self._after.backup is not None:
            with self._phase("backup"):
                try:
                    result = result.model_copy(update={"fresh_backup": self._after.backup()})
                except EtcdGuardError as error:
                    result = result.model_copy(update={"fresh_backup_problem": error.message})
        self._journal.append("finished")
        return result.model_copy(update={"seconds": dict(self._seconds)})

    def _result(self, started_at: datetime) -> ClusterResult:
        state, now = self._state(), self._clock.now()
        found = {one["name"]: RestoredMember.model_validate_json(json.dumps(one)) for one in state.members}
        return ClusterResult(
            plan_id=self._plan.id,
            backup_id=self._plan.backup_id,
            cluster_id=self._plan.cluster_id,
            revision=self._plan.revision,
            members=tuple(found[member.name] for member in self._plan.members),
            started_at=started_at,
            finished_at=now,
            seconds=dict(self._seconds),
            hosts=self._hosts(),
            downtime_seconds=(now - (state.stopped_at or now)).total_seconds(),
            proof=None if state.proof is None else dict(state.proof),
        )

    # -- backward ----------------------------------------------------------------------------------------

    def roll_back(self) -> None:
        """Make every host as it was before; raises PartialFailure where that is not possible (yet).

        Raises Refused once the new cluster is proven.
        """
        with self._alone():
            state = self._state()
            if state.proven:
                raise Refused(
                    f"the cluster that plan {self._plan.id} made is proven and in service",
                    hint="going back would lose what it accepted: restore an older backup if that is wanted",
                )
            self._put_back()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        try:
            yield
        except BaseException as cause:
            error = _told(cause)
            try:
                self._put_back()
            except EtcdGuardError as stuck:
                if error is None or error.message in stuck.message:
                    raise stuck from cause
                raise type(stuck)(f"{error.message}; {stuck.message}", hint=stuck.hint) from cause
            if error is None:
                raise
            raise type(error)(
                f"{error.message}; everything was put back as it was", hint=error.hint
            ) from cause

    def _put_back(self) -> None:
        try:
            self._watcher.phase("rollback")
            self._take_back()
        except KeyboardInterrupt as interrupt:
            raise Interrupted(
                "interrupted before every host was as it had been", hint=self._ways_out
            ) from interrupt

    def _take_back(self) -> None:
        swapping = self._state().swapping
        self._note_back("rolling-back", "nothing was put back")
        standing = self._crew.ask("status")
        lost = failures(standing)
        if lost and swapping:
            raise self._stuck(
                "nothing was put back, because directories go back on all hosts or on none", lost
            )
        if swapping:
            self._back(self._crew.ask("quiesce") if self._served else {})
            self._note_back("putting-back", "nothing was put back, and nothing was started")
            self._back(self._crew.ask("rollback"))
            # From here on what runs is the old cluster, and another run must not stop it to put nothing back.
            self._note_back("put-back", "the old directories are in place, and nothing was started")
        answering = [host for host, one in standing.items() if not isinstance(one, EtcdGuardError)]
        problems = failures(self._crew.ask("resume", only=answering))
        problems += failures(self._crew.ask("discard", only=answering))
        if lost or problems:
            raise self._stuck("the old directories are in place, but not all is done", [*lost, *problems])
        self._note_back("rolled-back", "every host is as it was, but this could not be noted")

    def _note_back(self, event: str, otherwise: str) -> None:
        try:
            self._journal.append(event)
        except EtcdGuardError as error:
            raise self._stuck(otherwise, [error]) from error

    def _back(self, outcomes: Mapping[str, Outcome]) -> None:
        problems = failures(outcomes)
        if problems:
            raise self._stuck("the rollback is not complete, and nothing was started", problems)

    def _stuck(self, what: str, problems: list[EtcdGuardError]) -> PartialFailure:
        reasons = "; ".join(error.message for error in problems)
        hints = "; ".join(dict.fromkeys(error.hint for error in problems))
        return PartialFailure(f"{what}: {reasons}", hint=f"{hints}; then {self._ways_out}")

    # -- looking and cleaning ----------------------------------------------------------------------------

    def status(self) -> tuple[PlanState, dict[str, Outcome]]:
        """Where the plan stands, and what each host says of itself."""
        try:
            return self._state(), self._crew.ask("status")
        finally:
            self._crew.close()

    def clean_up(self) -> dict[str, list[str]]:
        """Delete the old directories, once the cluster is proven; answers what each host removed."""
        with self._alone():
            if not self._state().proven:
                self._journal.append("proven", proof=dict(self._after.prove()))
            answers = self._crew.all("cleanup", proven=True)
            self._journal.append("cleaned")
            return {host: answer.facts["removed"] for host, answer in answers.items()}

    # -- common ------------------------------------------------------------------------------------------

    @property
    def _go_on(self) -> str:
        return f"go on with the same options: etcdguard restore run --plan {self._folder / PLAN_FILE} --all"

    @property
    def _back_command(self) -> str:
        return f"etcdguard restore rollback {self._plan.id}"

    @property
    def _ways_out(self) -> str:
        """The commands that bring a restore to an end that was cut off before the proof."""
        if self._state().must_go_back:
            return f"finish it: {self._back_command}"
        return f"make every host as it was: {self._back_command}, or {self._go_on}"

    def _hosts(self) -> dict[str, tuple[str, ...]]:
        return {site.host.name: site.members for site in self._crew.sites}

    def _state(self) -> PlanState:
        return fold(self._journal.events())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with exclusive(self._state_dir / "orchestrator.lock", patience=0, doing="another restore"):
            try:
                yield
            finally:
                self._crew.close()

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        self._journal.append("begin", phase=name)
        with self._timed(name):
            yield
        self._journal.append("done", phase=name, seconds=self._seconds[name])

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        self._watcher.phase(name)
        began = self._clock.monotonic()
        yield
        self._seconds[name] = self._clock.monotonic() - began


def _told(cause: BaseException) -> EtcdGuardError | None:
    """What to tell people of it; None for a fault of our own, which keeps its traceback."""
    if isinstance(cause, KeyboardInterrupt):
        return Interrupted("interrupted", hint="begin again with `etcdguard restore` when it suits")
    return cause if isinstance(cause, EtcdGuardError) else None
