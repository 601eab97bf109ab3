"""One step of a restore on this machine. Every step may be run again after a crash, and goes on or confirms.

The host's journal knows what was done; before a step relies on a directory it looks at it. Steps that change
something hold the machine's lock, and a plan keeps others away until it has ended or was rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etcdguard.clock import Clock
from etcdguard.errors import Corruption, EtcdGuardError, Refused, UsageError
from etcdguard.etcd.wal import WalMetadata, read_wal_metadata
from etcdguard.restore.directories import mount_points
from etcdguard.restore.environment import Environment, Overrides
from etcdguard.restore.files import translating
from etcdguard.restore.gate import check_ids
from etcdguard.restore.host_state import HostState, fold
from etcdguard.restore.journal import Journal, exclusive, plan_folder
from etcdguard.restore.machine import LOCAL, Machine
from etcdguard.restore.plan import PlannedMember, RestorePlan, located, read_plan_document
from etcdguard.restore.preflight import check_ready, check_stopped, raise_all
from etcdguard.restore.result import restored_member
from etcdguard.restore.services import NodeServices, Service
from etcdguard.restore.stage import discard, stage
from etcdguard.restore.steps import StepAnswer, StepError, StepRequest, failure
from etcdguard.restore.swap import occupied, put, put_back, relabel
from etcdguard.restore.telling import Tell, Telling
from etcdguard.storage.durable import remove_tree

__all__ = ["Node"]

JOURNAL = "host.jsonl"

_PATIENCE = 20.0
"""Seconds that a step waits for the one before it, whose orchestrator may have been lost."""

_Facts = dict[str, Any]


@dataclass(frozen=True)
class Node:
    """This machine, as the orchestrator sees it."""

    version: str
    state_dir: Path
    clock: Clock
    environment: Callable[[StepRequest, RestorePlan], AbstractContextManager[Environment]]
    """Opens the backup of a plan with the identities of a request; raises the repository's errors."""
    services: Callable[[PlannedMember, str], NodeServices | None]
    """A member's services for the plan of that id; None when the operator stops and starts etcd."""
    machine: Machine = LOCAL
    read_wal: Callable[[Path], WalMetadata] = read_wal_metadata

    def answer(self, request: StepRequest, tell: Tell | None = None) -> StepAnswer:
        """Do the step; what went wrong is in the answer. ``tell`` hears how far a long one is, if wanted."""
        try:
            return self._answer(request, tell if request.progress else None)
        except EtcdGuardError as error:
            return failure(self.version, error)

    def _answer(self, request: StepRequest, tell: Tell | None) -> StepAnswer:
        if request.version != self.version:
            raise Refused(
                f"etcdguard {self.version} is installed here, not {request.version}",
                hint="install the same version of etcdguard on every host",
            )
        if request.step == "hello":
            return StepAnswer(version=self.version, ok=True, facts={"now": self.clock.now().isoformat()})
        if request.plan is None:
            raise UsageError(f"{request.step} needs a plan", hint="run `etcdguard restore`, which sends it")
        plan = read_plan_document(request.plan)
        folder = plan_folder(self.state_dir, plan.id)
        looks = request.step == "status"
        with nullcontext() if looks else self._alone():
            work = _Work(self, request, plan, Journal(folder / JOURNAL, self.clock.now), tell)
            return work.done()

    def _alone(self) -> AbstractContextManager[None]:
        return exclusive(self.state_dir / "lock", patience=_PATIENCE, doing="another step of a restore")

    def other_plans(self, plan_id: str) -> Iterator[str]:
        """Plans other than this one that have not ended on this machine."""
        for path in sorted(self.state_dir.glob(f"*/{JOURNAL}")):
            if path.parent.name != plan_id and fold(Journal(path, self.clock.now).events()).active:
                yield path.parent.name


class _Work:
    """One request being carried out, under the lock."""

    def __init__(
        self, node: Node, request: StepRequest, plan: RestorePlan, journal: Journal, tell: Tell | None
    ) -> None:
        self._node = node
        self._tell = tell
        self._request = request
        self._journal = journal
        self._state = fold(journal.events())
        names = dict.fromkeys(request.members)
        if not names:
            raise UsageError("no member is named", hint="run `etcdguard restore`, which names them")
        self._mounted = mount_points([plan.member(name) for name in names], node.machine)
        self._plan = located(plan, self._mounted if self._state.mounts is None else self._state.mounts)
        self._members = [self._plan.member(name) for name in names]

    def done(self) -> StepAnswer:
        """Do it."""
        steps: dict[str, Callable[[], _Facts | None]] = {
            "stage": self._stage,
            "close": self._close,
            "quiesce": self._quiesce,
            "barrier": self._barrier,
            "swap": self._swap,
            "gate": self._gate,
            "start": self._start,
            "reopen": self._reopen,
            "rollback": self._rollback,
            "resume": self._resume,
            "discard": self._discard,
            "cleanup": self._cleanup,
            "status": self._restored,
        }
        step, version = self._request.step, self._node.version
        if step != "status":
            self._check_members()
            self._check_mounts()
        if step == "preflight":
            return StepAnswer(version=version, ok=True, findings=tuple(self._findings()))
        facts = steps[step]() or {}
        return StepAnswer(version=version, ok=True, facts={**facts, "phase": self._now().phase})

    def _check_members(self) -> None:
        """What the journal says holds for all members of the plan on this machine, or for none."""
        begun, named = self._state.members, {member.name for member in self._members}
        if begun is not None and named != set(begun):
            raise Refused(
                f"plan {self._plan.id} was begun here with {', '.join(begun)}, "
                f"not {', '.join(sorted(named))}",
                hint="the members of one machine go together: name those, or roll the plan back here",
            )

    def _check_mounts(self) -> None:
        """After a reboot a disk may be missing, and its mount point an empty directory."""
        before = set(self._mounted if self._state.mounts is None else self._state.mounts)
        for path in sorted(before ^ set(self._mounted)):
            if path in before:
                raise Refused(
                    f"{path} was a mount point when this restore began, and nothing is mounted there now",
                    hint="mount its file system again, then run this again",
                )
            raise Refused(
                f"something has been mounted on {path} since this restore began",
                hint="unmount it, then run this again",
            )

    # -- forward -----------------------------------------------------------------------------------------

    def _findings(self) -> Iterator[StepError]:
        try:
            self._check_may_run()
        except EtcdGuardError as error:
            yield StepError.of(error, "journal")
        if self._state.old is not None:
            return  # swapped already: the directories are no longer what a preflight looks for
        for service in self._everything():
            try:
                service.check()
            except EtcdGuardError as error:
                yield StepError.of(error, "service")
        will_stop = [member.name for member in self._members if member.service is not None]
        overrides = Overrides(unsigned=self._request.unsigned, live_quorum=self._request.live_quorum)
        try:
            with self._node.environment(self._request, self._plan) as environment:
                found = check_ready(self._plan, self._members, overrides, environment, will_stop=will_stop)
        except EtcdGuardError as error:
            yield StepError.of(error, "backup")
        else:
            yield from (StepError.of(finding.error, finding.check) for finding in found)

    def _check_may_run(self) -> None:
        if self._state.reopened:
            raise Refused(
                f"plan {self._plan.id} has been carried out here",
                hint="to restore once more, make a new plan",
            )
        if self._state.ever_started and self._state.old is None:
            raise Refused(
                f"plan {self._plan.id} has been started here and rolled back, which spends its token",
                hint="make a new plan with `etcdguard restore`",
            )
        for other in self._node.other_plans(self._plan.id):
            raise Refused(
                f"restore {other} has not ended on this machine",
                hint=f"go on with it, or take it back: etcdguard restore rollback {other}",
            )

    def _stage(self) -> None:
        self._check_may_run()
        if self._state.old is not None or (self._state.staged and self._still_whole()):
            return
        names = [member.name for member in self._members]
        self._journal.append("staging", plan=self._request.plan, members=names, mounts=self._mounted)
        try:
            with self._node.environment(self._request, self._plan) as environment:
                if self._tell is not None:
                    telling = Telling(self._tell, self._node.clock.monotonic)
                    environment = replace(environment, progress=telling)
                stage(self._plan, self._members, environment)
            check_ids(self._plan, self._members, self._node.read_wal, staged=True)
        except BaseException:
            # Whoever asked may be gone, and what is staged holds plaintext.
            self._discard()
            raise
        self._journal.append("staged")

    def _still_whole(self) -> bool:
        try:
            check_ids(self._plan, self._members, self._node.read_wal, staged=True)
        except Corruption:
            return False
        return True

    def _close(self) -> _Facts:
        return self._stop(self._clients())

    def _quiesce(self) -> _Facts:
        return self._stop(self._etcds())

    def _stop(self, services: Sequence[Service]) -> _Facts:
        """Hold all of them down, those too that do not run just now."""
        running = {service.name: service.is_running() for service in services}
        if services:
            self._journal.append("stopping", running=running)
        for service in services:
            service.stop()
        return {"stopped": [name for name, ran in running.items() if ran]}

    def _barrier(self) -> None:
        raise_all(list(check_stopped(self._members, self._node.machine)))

    def _swap(self) -> None:
        if self._state.swapped:
            return
        if not self._state.staged:
            raise Refused("nothing is staged here", hint="run the plan again, which stages first")
        self._barrier()  # once more: something may have started etcd again
        old = self._state.old
        if old is None:
            old = occupied(self._members)
            self._journal.append("swapping", old=old)
        put(self._members, old)
        relabel(self._members, self._node.machine)
        self._journal.append("swapped")

    def _gate(self) -> _Facts:
        check_ids(self._plan, self._members, self._node.read_wal, staged=False)
        return self._restored()

    def _restored(self) -> _Facts:
        return {"members": [restored_member(member).model_dump(mode="json") for member in self._members]}

    def _start(self) -> _Facts:
        self._need_swapped()
        etcds = self._etcds()
        if etcds:
            self._journal.append("starting")
        for service in etcds:
            service.start()
        return {"started": [service.name for service in etcds]}

    def _reopen(self) -> _Facts:
        self._need_swapped()
        if self._request.proven:
            self._journal.append("proven")
        clients = self._clients()
        for client in clients:
            client.start()
        kubelets = {one.kubelet.name: one.kubelet for one in self._services() if one.kubelet is not None}
        for kubelet in kubelets.values():
            kubelet.restart()
        self._journal.append("reopened")
        return {"started": [*(client.name for client in clients), *kubelets]}

    def _need_swapped(self) -> None:
        if not self._state.swapped:
            raise Refused("nothing of this plan is in place here", hint="run the plan again on all hosts")

    # -- backward ----------------------------------------------------------------------------------------

    def _rollback(self) -> None:
        if self._state.proven or self._state.cleaned:
            raise Refused(
                f"plan {self._plan.id} is proven and in service: a rollback would lose what it has accepted",
                hint="to go back in time, restore an older backup",
            )
        if self._state.old is None:
            return
        self._barrier()
        put_back(self._members, self._state.old)
        self._journal.append("rolled-back")

    def _resume(self) -> _Facts:
        if self._state.old is not None:
            raise Refused("the new directories are in place", hint="roll back first, on all hosts")
        ran = self._state.was_running
        if ran is None:
            return {}
        again = [service for service in self._everything() if service.name in ran]
        for service in again:
            if ran[service.name]:
                service.start()
            else:
                service.release()
        self._journal.append("resumed")
        return {"started": [service.name for service in again if ran[service.name]]}

    def _discard(self) -> None:
        if fold(self._journal.events()).old is not None:
            raise Refused("the new directories are in place", hint="roll back first, on all hosts")
        discard(self._members)
        if self._state.staging or self._now().staging:
            self._journal.append("discarded")

    def _cleanup(self) -> _Facts:
        if not (self._state.proven or (self._request.proven and self._state.reopened)):
            raise Refused(
                f"plan {self._plan.id} is not proven here: its old directories may still be needed",
                hint="bring the restored cluster into service first, or roll back",
            )
        removed = []
        for kept in (place.kept for member in self._members for place in member.places):
            if kept.exists():
                with translating(f"remove {kept}"):
                    remove_tree(kept)
                removed.append(str(kept))
        self._journal.append("cleaned")
        return {"removed": removed}

    # -- common ------------------------------------------------------------------------------------------

    def _now(self) -> HostState:
        return fold(self._journal.events())

    def _services(self) -> Sequence[NodeServices]:
        """Without a service of its own, a member and all around it are left to the operator."""
        found = (self._node.services(member, self._plan.id) for member in self._members)
        return [services for services in found if services is not None]

    def _etcds(self) -> list[Service]:
        return [services.etcd for services in self._services()]

    def _clients(self) -> list[Service]:
        """What uses etcd, each once though several members of this host name it."""
        clients = {one.name: one for services in self._services() for one in services.control_plane}
        return list(clients.values())

    def _everything(self) -> list[Service]:
        """In the order in which to start it."""
        return [*self._etcds(), *self._clients()]
