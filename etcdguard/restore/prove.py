"""Prove: that the restored cluster runs, is whole, holds what the backup held, and takes writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError
from etcdguard.etcd.client import Alarm
from etcdguard.etcd.consistency import Consistency, HashSource, compare, describe
from etcdguard.etcd.reach import reach
from etcdguard.model import ClusterTopology, HashKV, MemberStatus
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.services import Patience

__all__ = ["CANARY_PREFIX", "Proof", "ProvableCluster", "View", "prove", "raise_unproven"]

CANARY_PREFIX = "etcdguard/canary/"

_Answer = TypeVar("_Answer")

_POLL = 0.2
_LOG_HINT = "look at the member's log; `etcdguard restore rollback` puts the old directories back"


@dataclass(frozen=True)
class Proof:
    """One thing that had to be shown; one line each of what was seen and, if anything, what to do."""

    name: str
    ok: bool
    found: str
    hint: str = ""


class Keys(Protocol):
    """Single keys, through a quorum; see ``etcd.admin.AdminClient``."""

    def put(self, endpoint: str, key: bytes, value: bytes) -> None:
        """Write one key."""

    def get(self, endpoint: str, key: bytes) -> bytes | None:
        """Its value by a linearizable read."""

    def delete(self, endpoint: str, key: bytes) -> None:
        """Delete it."""


class ProvableCluster(HashSource, Keys, Protocol):
    """The cluster under proof; ``etcd.admin.AdminClient`` is one."""

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Where to ask for members whose client URLs the plan does not know."""

    def topology(self, endpoint: str | None = None) -> ClusterTopology:
        """The members as that endpoint (default: the first that answers) knows them."""

    def alarms(self, endpoint: str) -> tuple[Alarm, ...]:
        """Every alarm raised in the cluster."""

    def requires_login(self, endpoint: str) -> bool:
        """Whether a caller without user and password is turned away."""


@dataclass(frozen=True)
class View:
    """The cluster at one moment; what did not answer is missing, and ``silent`` says why."""

    topology: ClusterTopology | None
    statuses: Mapping[str, MemberStatus]
    """By member name, from each planned member itself."""
    silent: Mapping[str, str]


def prove(
    plan: RestorePlan,
    recorded: HashKV | None,
    cluster: ProvableCluster,
    patience: Patience,
    *,
    nonce: str,
    hash_timeout: float = 120.0,
) -> tuple[Proof, ...]:
    """Watch the cluster come up, then examine it; ``patience`` is for all of it but the hashing.

    ``recorded`` is the manifest's ``hash_kv``, ``nonce`` the last part of the canary's key, ``hash_timeout``
    the seconds for one scan of a member's database. Members are always asked all at once. Never raises for
    what the cluster does: see ``raise_unproven``. When members, leader or revision do not come out right in
    time, the proofs end with these three.
    """
    prover = _Prover(plan, cluster, patience)
    settled, view = prover.settled()
    if not all(proof.ok for proof in settled):
        return settled
    return (*settled, *prover.examined(view, recorded, nonce, hash_timeout))


def raise_unproven(proofs: Sequence[Proof]) -> None:
    """Raise ClusterUnhealthy that names every proof that failed, if one did."""
    failed = [proof for proof in proofs if not proof.ok]
    if failed:
        raise ClusterUnhealthy(
            f"not proven: {'; '.join(f'{proof.name}: {proof.found}' for proof in failed)}",
            hint="; ".join(dict.fromkeys(proof.hint for proof in failed if proof.hint)) or _LOG_HINT,
        )


# -- pure proofs -----------------------------------------------------------------------------------------


def members(plan: RestorePlan, view: View) -> Proof:
    """Every planned member has started as planned and votes, and there is nobody else."""
    problems = [f"{name} {why}" for name, why in view.silent.items()]
    for name, status in view.statuses.items():
        planned = plan.member(name).member_id
        if (status.member_id, status.cluster_id) != (planned, plan.cluster_id):
            problems.append(
                f"{name} is member {status.member_id} of cluster {status.cluster_id}, "
                f"not {planned} of {plan.cluster_id}"
            )
    problems += _not_voting(plan, view.topology)
    if problems:
        return Proof("members", False, "; ".join(problems), _LOG_HINT)
    return Proof("members", True, f"{len(plan.members)} voters of cluster {plan.cluster_id} run, as planned")


def leader(view: View) -> Proof:
    """All follow the same one, which is among them."""
    found = {name: status.leader_id for name, status in view.statuses.items()}
    leads = [name for name, status in view.statuses.items() if status.is_leader]
    if len(set(found.values())) == len(leads) == 1:
        return Proof("leader", True, f"all follow {leads[0]}")
    each = ", ".join(f"{name} follows {'none' if one == '0' else one}" for name, one in found.items())
    hint = "check that the members reach each other at their peer URLs"
    return Proof("leader", False, each or "no member answered", hint)


def revision(plan: RestorePlan, view: View) -> Proof:
    """No member is behind the plan; ahead of it are only writes since."""
    found = {name: status.revision for name, status in view.statuses.items()}
    if not found or min(found.values()) < plan.revision:
        each = ", ".join(f"{name} {one}" for name, one in found.items())
        return Proof("revision", False, f"{each or 'unknown'}, planned {plan.revision}", _LOG_HINT)
    later = max(found.values()) - plan.revision
    return Proof(
        "revision", True, f"{plan.revision} as planned{f', and {later} written since' if later else ''}"
    )


def alarms(plan: RestorePlan, raised: Sequence[Alarm]) -> Proof:
    """No member calls its data corrupt. One that is out of space is so since before the backup."""
    names = {member.member_id: member.name for member in plan.members}
    each = ", ".join(f"{one.kind} on {names.get(one.member_id, one.member_id)}" for one in raised)
    if not raised:
        return Proof("alarms", True, "none")
    if any(one.kind != "NOSPACE" for one in raised):
        return Proof("alarms", False, each, "the backup may hold the damage: restore an older one")
    return Proof(
        "alarms",
        True,
        f"{each}: writes are refused, as they were when the backup was taken",
        "compact, defragment, compare the size with --quota-backend-bytes, then `etcdctl alarm disarm`",
    )


def equality(result: Consistency, recorded: HashKV | None, *, bumped: bool) -> Proof:
    """All members hash alike, and like the one the backup is of where both hashed the same revisions."""
    common = result.common
    if common is None:
        return Proof("hash", False, result.found, "the members must not serve: roll back, or restore again")
    if recorded is None:
        return Proof("hash", True, f"{result.found}; the manifest has none to compare")
    if bumped or (common.revision, common.compact_revision) != (recorded.revision, recorded.compact_revision):
        why = "the bump has moved the compaction" if bumped else f"that is {describe(recorded)}"
        return Proof("hash", True, f"{result.found}; not comparable with the manifest's: {why}")
    if common.hash != recorded.hash:
        return Proof(
            "hash",
            False,
            f"{result.found}, but the manifest says {describe(recorded)}",
            "restore another backup",
        )
    return Proof("hash", True, f"{result.found} and in the manifest")


def _not_voting(plan: RestorePlan, topology: ClusterTopology | None) -> Iterator[str]:
    if topology is None:
        yield "no member lists the members"
        return
    started = {member.id for member in topology.voters if member.name}
    for planned in plan.members:
        if planned.member_id not in started:
            yield f"{planned.name} is not listed as a started voter"
    known = {planned.member_id for planned in plan.members}
    yield from (
        f"{member.name or 'a member never started'} ({member.id}) is not of the plan"
        for member in topology.members
        if member.id not in known
    )


# -- asking ----------------------------------------------------------------------------------------------


class _Prover:
    def __init__(self, plan: RestorePlan, cluster: ProvableCluster, patience: Patience) -> None:
        self._plan = plan
        self._cluster = cluster
        self._patience = patience
        self._deadline = patience.monotonic() + patience.seconds

    def settled(self) -> tuple[tuple[Proof, ...], View]:
        """Members, leader and revision, as soon as they are right or when time is up."""
        view = self._poll(self._look, lambda seen: all(proof.ok for proof in self._of(seen)))
        return self._of(view), view

    def examined(
        self, view: View, recorded: HashKV | None, nonce: str, hash_timeout: float
    ) -> Iterator[Proof]:
        """The rest. A call that fails is repeated while there is time; an answer is final."""
        urls = {name: status.endpoint for name, status in view.statuses.items()}
        one = next(iter(urls.values()))
        yield self._tried("hash", lambda: self._hash(urls, recorded, hash_timeout))
        alarm = self._tried("alarms", lambda: alarms(self._plan, self._cluster.alarms(one)))
        yield alarm
        yield self._tried("auth", lambda: self._auth(one))
        quiet = not alarm.hint
        yield self._tried("canary", lambda: self._canary(tuple(urls.values()), nonce, write=quiet))

    def _of(self, view: View) -> tuple[Proof, ...]:
        return (members(self._plan, view), leader(view), revision(self._plan, view))

    def _tried(self, name: str, check: Callable[[], Proof]) -> Proof:
        def asked() -> Proof | EtcdGuardError:
            try:
                return check()
            except EtcdGuardError as error:
                return error

        answer = self._poll(asked, lambda one: isinstance(one, Proof))
        return answer if isinstance(answer, Proof) else Proof(name, False, answer.message, answer.hint)

    def _poll(self, ask: Callable[[], _Answer], enough: Callable[[_Answer], bool]) -> _Answer:
        """Ask at least once, and on until the answer will do or time is up."""
        while True:
            answer = ask()
            if enough(answer) or self._patience.monotonic() >= self._deadline:
                return answer
            self._patience.sleep(_POLL)

    def _look(self) -> View:
        planned = self._plan.members
        if all(member.client_urls for member in planned):
            urls = {member.name: member.client_urls for member in planned}
        else:
            urls = self._listed_urls()
        with ThreadPoolExecutor(len(planned), thread_name_prefix="prove") as pool:
            ask = self._cluster.status
            answers = tuple(pool.map(lambda one: reach(ask, one.member_id, urls[one.name]), planned))
        found = {member.name: answer for member, answer in zip(planned, answers, strict=True)}
        statuses = {name: one for name, one in found.items() if isinstance(one, MemberStatus)}
        silent = {name: one.message for name, one in found.items() if isinstance(one, EtcdGuardError)}
        return View(self._topology(statuses), statuses, silent)

    def _listed_urls(self) -> dict[str, tuple[str, ...]]:
        """Where the cluster itself says its members are, for those of which the plan does not."""
        try:
            listed = {member.id: member.client_urls for member in self._cluster.topology().members}
        except EtcdGuardError:  # nobody is there yet, as the members' silence will tell
            listed = {}
        return {
            member.name: member.client_urls or listed.get(member.member_id, ())
            for member in self._plan.members
        }

    def _topology(self, statuses: Mapping[str, MemberStatus]) -> ClusterTopology | None:
        for status in statuses.values():
            try:
                return self._cluster.topology(status.endpoint)
            except EtcdGuardError:  # it went away just now: the next look will tell
                continue
        return None

    def _hash(self, urls: Mapping[str, str], recorded: HashKV | None, timeout: float) -> Proof:
        bumped = self._plan.bump is not None
        result: Consistency | None = None
        if recorded is not None and not bumped:
            # At the backup's own revision: elsewhere, its hash could not be compared.
            result = self._compare(urls, timeout, recorded.revision)
        if result is None or result.outcome == "inconclusive":
            result = self._compare(urls, timeout, None)
        return equality(result, recorded, bumped=bumped)

    def _compare(self, urls: Mapping[str, str], timeout: float, at: int | None) -> Consistency:
        return compare(self._cluster, urls, timeout=timeout, sleep=self._patience.sleep, revision=at)

    def _auth(self, endpoint: str) -> Proof:
        asks = self._cluster.requires_login(endpoint)
        found = "on: a client must log in" if asks else "off: a client without user and password is let in"
        return Proof("auth", True, found)

    def _canary(self, urls: Sequence[str], nonce: str, *, write: bool) -> Proof:
        """Written through one member, read through another; a cluster out of space only reads and deletes."""
        here, there = urls[0], urls[-1]
        key, value = f"{CANARY_PREFIX}{nonce}".encode(), nonce.encode()
        try:
            if write:
                self._cluster.put(here, key, value)
            read = self._cluster.get(there, key)
            self._cluster.delete(here, key)
            left = self._cluster.get(there, key)
        except EtcdGuardError as error:
            hint = f"{error.hint}; the key {key.decode()} may be left behind"
            raise type(error)(error.message, hint=hint) from error
        if read != (value if write else None) or left is not None:
            return Proof("canary", False, f"{key.decode()} read {read!r}, then {left!r}", _LOG_HINT)
        done = "written, read and deleted" if write else "read and deleted; writes wait for the alarm"
        return Proof("canary", True, f"{key.decode()} {done}")
