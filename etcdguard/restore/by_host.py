"""One host's part of a plan that the operator carries from host to host, because no machine reaches them all.

The steps are the ones a host does under the orchestrator, with the same journal. What spans hosts takes two
rounds, and the operator is the barrier between them: in the first, every host puts its new directories in
place and holds its services; in the second, once told that all hosts have done so, each starts its members.

What no host can see is guarded twice. A member is started on one side, the new or the old, only while no
member of the other side answers. And whatever the hosts do: each has one directory in place, the new or the
old one, so that a majority of the new cluster and a majority of the old one never exist together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from etcdguard.clock import Clock
from etcdguard.errors import EtcdGuardError, PartialFailure, Refused, UsageError
from etcdguard.restore.crew import Crew, Outcome, Watcher
from etcdguard.restore.files import write_private
from etcdguard.restore.journal import Journal, exclusive, plan_folder
from etcdguard.restore.orchestrate import PLAN_FILE, After
from etcdguard.restore.plan import PlannedMember, RestorePlan, write_plan
from etcdguard.restore.report import elsewhere as on_hosts
from etcdguard.restore.report import remaining, run_command_line
from etcdguard.restore.result import HostResult, RestoredMember, event_facts

__all__ = ["JOURNAL", "ByHost", "Elsewhere", "Goal"]

JOURNAL = "by-host.jsonl"

Goal = Literal["held", "started", "open"]
"""How far to go: in place and held down; started; or proven, with everything that uses etcd open again."""

_RUNNING = ("started", "proven", "reopened")
_IN_PLACE = ("swapped", *_RUNNING)


@dataclass(frozen=True)
class Elsewhere:
    """What etcd itself says of members on hosts that we do not reach. No answer is no error."""

    cluster_of: Callable[[PlannedMember], str | None]
    """The id of the cluster that the member runs in; None when it does not answer."""
    serves: Callable[[PlannedMember], bool]
    """Whether it has a quorum behind it."""


class ByHost:
    """The members of one plan that live on this machine.

    ``crew`` has this machine alone; ``plan_file`` is the plan as the operator calls it, for what he is told.
    """

    def __init__(
        self,
        plan: RestorePlan,
        crew: Crew,
        state_dir: Path,
        clock: Clock,
        watcher: Watcher,
        after: After,
        elsewhere: Elsewhere,
        plan_file: Path | None = None,
    ) -> None:
        (site,) = crew.sites
        self.plan = plan
        self.names = site.members
        self.others = remaining(plan, site.members)
        self._host = site.host.name
        members = [plan.member(name) for name in site.members]
        self._crew = crew
        self._clock = clock
        self._watcher = watcher
        self._after = after
        self._elsewhere = elsewhere
        self._served = all(member.service is not None for member in members)
        if not self._served and any(member.service is not None for member in plan.members):
            raise UsageError(
                "only some of the members have a service",
                hint="configure members[].service for all, or for none and stop and start etcd yourself",
            )
        self._state_dir = state_dir
        self._folder = plan_folder(state_dir, plan.id)
        self._journal = Journal(self._folder / JOURNAL, clock.now)
        self.plan_file = str(plan_file or self._folder / PLAN_FILE)
        self._seconds: dict[str, float] = {}

    # -- forward -----------------------------------------------------------------------------------------

    def run(self, goal: Goal) -> HostResult:
        """Go as far as ``goal``, from wherever an earlier run was cut off.

        Without other hosts there is nobody to wait for, and without services nothing to hold: then it always
        goes to the end. Raises what preflight finds, having changed nothing. A failure before the new
        directories are in place is raised once this host was put back as it was; one after that is a
        PartialFailure, and running it again goes on.
        """
        if not (self._served and self.others):
            goal = "open"
        with self._alone():
            started_at = self._clock.now()
            phase = self._phase_here()
            if phase == "reopened" and not self._finished():
                return self._wind_up(started_at)
            self._check(goal)
            self._note()
            if phase not in _RUNNING:
                with self._or_as_it_was():
                    self._put_in_place(swapped=phase in _IN_PLACE)
            if goal == "held":
                return self._result(started_at, "held")
            if self._served:
                self._start()
                if goal == "started":
                    return self._result(started_at, "started")
                self._prove()
            self._reopen()
            return self._wind_up(started_at)

    def _check(self, goal: Goal) -> None:
        with self._timed("preflight"):
            self._crew.hello()
            self._crew.preflight()
            if goal != "held" and (old := self._running_elsewhere(new=False)):
                raise Refused(
                    f"{', '.join(old)} still runs in another cluster than the restored one",
                    hint=f"first {self._each(old)}; without --start, this host's members can be put in place",
                )

    def _note(self) -> None:
        """Before anything changes: what another run needs to go on or to go back."""
        self._journal.append("plan", members=self.names)
        plan_file = self._folder / PLAN_FILE
        if not plan_file.exists():
            write_private(plan_file, [write_plan(self.plan)])

    def _put_in_place(self, *, swapped: bool) -> None:
        if not swapped:
            with self._timed("stage"):
                self._crew.all("stage")
            if self._served:
                with self._timed("quiesce"):
                    self._crew.all("close")
                    self._crew.all("quiesce")
            with self._timed("barrier"):
                self._crew.all("barrier")
            with self._timed("swap"):
                self._crew.all("swap")
        with self._timed("gate"):
            self._crew.all("gate")

    def _start(self) -> None:
        if old := self._running_elsewhere(new=False):
            raise PartialFailure(
                f"the new directories are in place here and held, but {', '.join(old)} still runs in "
                "another cluster",
                hint=f"first {self._each(old)}; then here: {self._command('--start')}",
            )
        with self._timed("start"), self._still_here("started"):
            self._crew.all("start")

    def _prove(self) -> None:
        if self.others:
            self._watcher.note(
                f"etcd is started here, and serves once a majority is: {self._each(self.others, '--start')}. "
                "This waits until the cluster is whole; an interrupt ends only the waiting"
            )
        with self._timed("prove"):
            try:
                proof = self._after.prove()
            except EtcdGuardError as error:
                raise PartialFailure(
                    f"{', '.join(self.names)} runs, but the cluster is not whole: {error.message}",
                    hint=f"{self._each(self.others, '--start') or error.hint}; "
                    f"then here again: {self._command('--start')}; "
                    f"or on EVERY host: `{self._back}`",
                ) from error
        self._journal.append("proven", proof=dict(proof))

    def _reopen(self) -> None:
        with self._timed("reopen"), self._still_here("open"):
            self._crew.all("reopen", proven=self._served)

    @contextmanager
    def _still_here(self, what: str) -> Iterator[None]:
        try:
            yield
        except EtcdGuardError as error:
            raise PartialFailure(
                f"the new directories are in place here, but not everything is {what}: {error.message}",
                hint=f"{error.hint}; then go on: {self._command('--start')}",
            ) from error

    def _wind_up(self, started_at: datetime) -> HostResult:
        """What is restored stays, also when it can be neither recorded nor backed up."""
        result = self._result(started_at, "open")
        with self._timed("record"):
            try:
                self._after.record(event_facts(self.plan, result))
            except EtcdGuardError as error:
                result = result.model_copy(update={"record_problem": error.message})
        if not self.others and self._after.backup is not None:
            with self._timed("backup"):
                try:
                    result = result.model_copy(update={"fresh_backup": self._after.backup()})
                except EtcdGuardError as error:
                    result = result.model_copy(update={"fresh_backup_problem": error.message})
        self._journal.append("finished")
        return result.model_copy(update={"seconds": dict(self._seconds)})

    def _result(self, started_at: datetime, phase: Goal) -> HostResult:
        members = self._facts()["members"]
        proofs = [one["proof"] for one in self._journal.events() if one["event"] == "proven"]
        return HostResult(
            plan_id=self.plan.id,
            backup_id=self.plan.backup_id,
            cluster_id=self.plan.cluster_id,
            revision=self.plan.revision,
            members=tuple(RestoredMember.model_validate_json(json.dumps(one)) for one in members),
            started_at=started_at,
            finished_at=self._clock.now(),
            seconds=dict(self._seconds),
            proof=proofs[-1] if proofs and phase == "open" else None,
            host=self._host,
            phase=phase,
        )

    # -- backward ----------------------------------------------------------------------------------------

    def roll_back(self, *, live_quorum: bool = False) -> None:
        """Make this host as it was before. The operator does the same on every other host.

        Raises Refused when the new cluster is proven here, or serves without us (unless ``live_quorum``), and
        PartialFailure when this host's members are stopped but others still run in the new cluster: an old
        member is not started beside a new one.
        """
        with self._alone():
            phase = self._phase_here()
            if phase in ("proven", "cleaned") or (phase == "reopened" and self._served):
                raise Refused(
                    f"the cluster that plan {self.plan.id} made is proven and in service",
                    hint="going back would lose what it accepted: restore an older backup if that is wanted",
                )
            new = self._running_elsewhere(new=True)
            serving = [name for name in new if self._elsewhere.serves(self.plan.member(name))]
            if serving and not live_quorum:
                raise Refused(
                    f"the new cluster serves at {', '.join(serving)}",
                    hint=f"go on instead: {self._command('--start')}; to lose what it has "
                    "accepted, pass --i-know-quorum-is-alive, here and on EVERY other host",
                )
            self._hold_down(phase)
            if new:
                raise PartialFailure(
                    f"nothing was put back here, because {', '.join(new)} still runs in the new cluster",
                    hint=f"first on the other hosts, which stops them: `{self._back}`; then here again",
                )
            self._go_back()
            self._journal.append("rolled-back")

    @contextmanager
    def _or_as_it_was(self) -> Iterator[None]:
        try:
            yield
        except BaseException as cause:
            self._watcher.phase("rollback")
            try:
                self._hold_down(self._phase_here())
                self._go_back()
            except EtcdGuardError as stuck:
                told = cause.message if isinstance(cause, EtcdGuardError) else "interrupted"
                raise PartialFailure(
                    f"{told}; this host could not be put back as it was: {stuck.message}",
                    hint=f"{stuck.hint}; then `{self._back}`, or go on: {self._command()}",
                ) from cause
            if isinstance(cause, EtcdGuardError):
                raise type(cause)(
                    f"{cause.message}; this host was put back as it was", hint=cause.hint
                ) from cause
            raise

    def _hold_down(self, phase: str) -> None:
        """Before directories go back; what has merely been stopped is held already, as far as it matters."""
        if self._served and phase in ("swapping", "swapped", "started"):
            self._crew.all("quiesce")

    def _go_back(self) -> None:
        self._crew.all("rollback")
        self._crew.all("resume")
        self._crew.all("discard")

    # -- looking and cleaning ----------------------------------------------------------------------------

    def status(self) -> tuple[str, dict[str, Outcome]]:
        """Where this host stands, and its answer in full."""
        try:
            return self._phase_here(), self._crew.ask("status")
        finally:
            self._crew.close()

    def neighbours(self) -> dict[str, str]:
        """The hosts that we do not reach, each with what etcd says of its members."""
        seen: dict[str, list[str]] = {}
        for name, cluster in self._clusters_elsewhere().items():
            word = "does not answer"
            if cluster is not None:
                word = f"runs in the {'restored' if cluster == self.plan.cluster_id else 'old'} cluster"
            host = self.plan.member(name).host or f"the host of {name}"
            seen.setdefault(host, ["not reached from here"]).append(f"{name} {word}")
        return {host: "; ".join(words) for host, words in seen.items()}

    def clean_up(self) -> dict[str, list[str]]:
        """Delete this host's old directories, once the cluster is proven; answers what was removed."""
        with self._alone():
            if self._phase_here() != "proven" and not any(
                one["event"] == "proven" for one in self._journal.events()
            ):
                self._journal.append("proven", proof=dict(self._after.prove()))
            answers = self._crew.all("cleanup", proven=True)
            return {host: answer.facts["removed"] for host, answer in answers.items()}

    # -- common ------------------------------------------------------------------------------------------

    @property
    def _back(self) -> str:
        return f"etcdguard restore rollback {self.plan.id}"

    def _command(self, *flags: str) -> str:
        return f"`{run_command_line(self.plan_file, self.names, *flags)}`"

    def _each(self, names: Sequence[str], *flags: str) -> str:
        return "; ".join(on_hosts(self.plan, names, self.plan_file, *flags))

    def _running_elsewhere(self, *, new: bool) -> list[str]:
        """The other members that answer and are of the new cluster, or of any but that."""
        return [
            name
            for name, cluster in self._clusters_elsewhere().items()
            if cluster is not None and (cluster == self.plan.cluster_id) == new
        ]

    def _clusters_elsewhere(self) -> dict[str, str | None]:
        members = [self.plan.member(name) for name in self.others]
        with ThreadPoolExecutor(max(1, len(members)), thread_name_prefix="neighbours") as pool:
            return dict(zip(self.others, pool.map(self._elsewhere.cluster_of, members), strict=True))

    def _phase_here(self) -> str:
        return str(self._facts()["phase"])

    def _facts(self) -> dict[str, Any]:
        (answer,) = self._crew.all("status").values()
        return answer.facts

    def _finished(self) -> bool:
        return any(one["event"] == "finished" for one in self._journal.events())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with exclusive(self._state_dir / "orchestrator.lock", patience=0, doing="another restore"):
            try:
                yield
            finally:
                self._crew.close()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        self._watcher.phase(name)
        began = self._clock.monotonic()
        yield
        self._seconds[name] = self._clock.monotonic() - began
