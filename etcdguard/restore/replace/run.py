"""Replace a lost member: stop, remove, set aside, add, seed, start, promote, verify.

What to do next is derived from the cluster and the directories each time, so a run that was cut off anywhere
is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from etcdguard.clock import Clock
from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, Refused
from etcdguard.etcd.consistency import Consistency, compare
from etcdguard.etcd.wal import WalMetadata
from etcdguard.model import HexId, Member, MemberStatus
from etcdguard.restore.files import translating
from etcdguard.restore.journal import Journal, exclusive
from etcdguard.restore.preflight import raise_all
from etcdguard.restore.replace import directories
from etcdguard.restore.replace.environment import ReplaceEnvironment
from etcdguard.restore.replace.plan import ReplacePlan, Step, joining, next_step
from etcdguard.restore.replace.preflight import check_stopped
from etcdguard.restore.replace.survey import Survey, reachable, survey

__all__ = ["ReplaceResult", "begun", "replace_member"]

_T = TypeVar("_T")

_POLL = 0.5
_OFFLINE: tuple[Step, ...] = ("remove", "set-aside", "add", "seed")
"""Steps that etcd on this host must be down for."""


class ReplaceResult(BaseModel):
    """What a replacement did."""

    model_config = ConfigDict(frozen=True, strict=True)

    plan_id: str
    cluster_id: HexId
    name: str
    old_member_id: HexId | None
    member_id: HexId
    data_dir: str
    kept: tuple[str, ...]
    """Where the old files are now; empty when there were none."""
    verified: str
    """What the comparison of hashes found."""
    seconds: dict[str, float]
    """How long each step of this run took."""


def begun(name: str, state_dir: Path, clock: Clock) -> ReplacePlan | None:
    """The plan that an earlier run for this member has begun on this machine and not finished."""
    journal = _journal(name, state_dir, clock)
    events = journal.events()
    if not events:
        return None
    try:
        return ReplacePlan.model_validate_json(events[-1]["plan"])
    except (KeyError, ValidationError) as e:
        raise Refused(
            f"{journal.path} is not a replacement's plan",
            hint="remove it, list the member with its peer_urls under `members`, and run this again",
        ) from e


def replace_member(plan: ReplacePlan, environment: ReplaceEnvironment) -> ReplaceResult:
    """Carry the plan out, from wherever it stands. Raises what keeps it from going on; run it again then.

    ClusterUnhealthy or EtcdUnreachable when the cluster does not do its part in time, Locked when another
    restore or replacement is at work on this machine.
    """
    with exclusive(environment.state_dir / "lock", patience=0, doing="another restore or replacement"):
        journal = _journal(plan.member.name, environment.state_dir, environment.clock)
        if not journal.events():
            journal.append("planned", plan=plan.model_dump_json())
        try:
            result = _Run(plan, environment, journal.path).done()
        finally:
            environment.progress.done()
        with translating(f"remove {journal.path}"):
            journal.path.unlink()
        return result


def _journal(name: str, state_dir: Path, clock: Clock) -> Journal:
    return Journal(state_dir / f"replace-{quote(name, safe='')}.jsonl", clock.now)


class _Run:
    def __init__(self, plan: ReplacePlan, environment: ReplaceEnvironment, file: Path) -> None:
        self._plan = plan
        self._file = file
        self._world = environment
        self._stopped = False
        self._told = False
        self._seconds: dict[str, float] = {}

    def done(self) -> ReplaceResult:
        """Step by step."""
        steps: dict[Step, Callable[[Survey], None]] = {
            "stop": self._stop,
            "remove": self._remove,
            "set-aside": self._set_aside,
            "add": self._add,
            "seed": self._seed,
            "start": self._start,
            "promote": self._promote,
        }
        while True:
            step, _ = self._patiently("look", self._look)
            if step == "verify":
                break
            with self._timed(step):
                self._advance(step, steps[step])
        with self._timed("verify"):
            found = self._verify()
        return self._result(found)

    def _look(self) -> tuple[Step, Survey]:
        seen = self._survey()
        plan = self._plan
        if seen.topology.cluster_id != plan.cluster_id:
            raise Refused(
                f"the plan is for cluster {plan.cluster_id}, and {seen.topology.cluster_id} answers",
                hint=f"the cluster was restored since: remove {self._file} and run this again",
            )
        ids = directories.found_ids(plan.member, self._world.read_wal)
        step = next_step(plan, seen.topology, ids, occupied=directories.occupied(plan))
        return ("stop" if step in _OFFLINE and not self._stopped else step), seen

    def _survey(self) -> Survey:
        urls = (*self._plan.endpoints, *self._world.endpoints)
        try:
            return survey(self._world.cluster, urls, self._plan.member.name)
        except Refused as e:  # before the first step that is final; now it may pass
            raise ClusterUnhealthy(e.message, hint=e.hint) from e

    def _advance(self, step: Step, action: Callable[[Survey], None]) -> None:
        """Until the step is done, be it by an attempt whose answer was lost."""

        def attempt() -> None:
            now, seen = self._look()
            if now == step:
                action(seen)

        self._patiently(step, attempt)

    # -- steps -------------------------------------------------------------------------------------------

    def _stop(self, _: Survey) -> None:
        if self._world.service is not None:
            self._world.service.stop()
        raise_all(list(check_stopped(self._plan, self._world.machine)))
        self._stopped = True

    def _remove(self, seen: Survey) -> None:
        self._world.cluster.remove_member(seen.endpoint, str(self._plan.old_member_id))

    def _set_aside(self, _: Survey) -> None:
        directories.set_aside(self._plan, root=self._world.machine.uid == 0)

    def _add(self, seen: Survey) -> None:
        self._world.cluster.add_learner(seen.endpoint, self._plan.member.peer_urls)

    def _seed(self, seen: Survey) -> None:
        ids = WalMetadata(self._new(seen).id, seen.topology.cluster_id)
        directories.seed(self._plan, ids, root=self._world.machine.uid == 0)

    def _start(self, seen: Survey) -> None:
        self._keep_running()
        # Its name, which it announces itself, shows that it has joined; then the next look ends this step.
        raise ClusterUnhealthy(
            f"{self._plan.member.name} has not joined as {self._new(seen).id} yet",
            hint="look at etcd's log on this machine, then run this again: it goes on from here",
        )

    def _promote(self, seen: Survey) -> None:
        self._keep_running()
        self._world.cluster.promote_member(seen.endpoint, self._new(seen).id)

    def _verify(self) -> Consistency:
        result = self._patiently("verify", self._compared)
        if result.outcome == "different":
            raise ClusterUnhealthy(
                f"the members do not hold the same data: {result.found}",
                hint="find out which one the others agree against, and replace that one",
            )
        return result

    def _compared(self) -> Consistency:
        seen = self._survey()
        found = reachable(self._world.cluster, seen.topology.voters)
        urls = {name: one.endpoint for name, one in found.items() if isinstance(one, MemberStatus)}
        new = self._new(seen)
        if new.name not in urls:
            raise ClusterUnhealthy(
                f"{new.name} does not answer at {', '.join(new.client_urls) or 'any client URL'}",
                hint="look at etcd's log on this machine, then run this again",
            )
        timeout = self._world.hash_timeout
        result = compare(self._world.cluster, urls, timeout=timeout, sleep=self._world.sleep)
        if result.outcome == "inconclusive":
            raise ClusterUnhealthy(
                f"the members' data could not be compared: {result.found}",
                hint="the member has joined and votes; run this again when there is less load",
            )
        return result

    # -- common ------------------------------------------------------------------------------------------

    def _new(self, seen: Survey) -> Member:
        new = joining(self._plan, seen.topology)
        if new is None:
            raise ClusterUnhealthy(
                f"{self._plan.member.name} is not listed any more", hint="somebody removed it: run this again"
            )
        return new

    def _keep_running(self) -> None:
        service = self._world.service
        if service is not None:
            if not service.is_running():
                service.start()
        elif not self._told:
            self._told = True
            self._world.tell(
                "start etcd on this machine now, with its usual flags; it takes its place from "
                f"{self._plan.member.data_dir}"
            )

    def _patiently(self, step: str, action: Callable[[], _T]) -> _T:
        """Try until it works; what may pass is raised only when time is up."""
        world = self._world
        quick = step == "look" or step in _OFFLINE
        deadline = world.clock.monotonic() + (world.patience if quick else world.catch_up)
        while True:
            try:
                return action()
            except (ClusterUnhealthy, EtcdUnreachable):
                if world.clock.monotonic() >= deadline:
                    raise
            world.sleep(_POLL)

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        self._world.progress.phase(step, None)
        began = self._world.clock.monotonic()
        yield
        self._seconds[step] = self._seconds.get(step, 0.0) + self._world.clock.monotonic() - began

    def _result(self, verified: Consistency) -> ReplaceResult:
        plan, seen = self._plan, self._survey()
        return ReplaceResult(
            plan_id=plan.id,
            cluster_id=plan.cluster_id,
            name=plan.member.name,
            old_member_id=plan.old_member_id,
            member_id=self._new(seen).id,
            data_dir=plan.member.data_dir,
            kept=tuple(aside.kept for aside in plan.asides if Path(aside.kept).exists()),
            verified=verified.found,
            seconds=self._seconds,
        )
