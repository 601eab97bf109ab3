"""Whether a restore would work right now from this machine. Pure: what was found in, one line a check out.

Hosts answer the restore's own preflight for a plan that nobody carries out, so that the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from etcdguard.catalog import Backup, Listing
from etcdguard.errors import EtcdGuardError, ObjectNotFound, Refused, Stale
from etcdguard.etcd.tools import Tool
from etcdguard.human import counted
from etcdguard.maintenance.checks.thresholds import Limits, Thresholds
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.restore.crew import Outcome as Answer
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.steps import StepError

__all__ = ["Key", "Prospect", "judge_readiness", "newest"]

_PREFIX = "readiness."
_NOT_ABOUT_A_LIVING_CLUSTER = "stopped"
"""The preflight's check that etcd is down: it runs today, and whoever restores stops it first."""


@dataclass(frozen=True)
class Key:
    """What opens backups here. ``problem``: why the newest one was not opened."""

    offline: bool = False
    """No identity is configured or named: it is kept elsewhere on purpose."""
    needed: bool = True
    problem: EtcdGuardError | None = None


@dataclass(frozen=True)
class Prospect:
    """All that is known of a restore of the newest backup."""

    repositories: Mapping[str, Listing | EtcdGuardError]
    """In configured order."""
    key: Key | None
    """None: there was no backup to try."""
    tool: Tool | EtcdGuardError
    plan: RestorePlan | EtcdGuardError | None
    """None: there was no backup to plan with, or no tool."""
    hosts: Mapping[str, Answer]
    """What each host answered to the preflight."""
    now: datetime


def newest(repositories: Mapping[str, Listing | EtcdGuardError]) -> Backup | None:
    """The backup that a restore of ``latest`` takes: of the first repository that answers with one."""
    for listing in repositories.values():
        if isinstance(listing, Listing) and listing.backups:
            return listing.backups[-1]
    return None


def judge_readiness(found: Prospect, thresholds: Thresholds) -> list[CheckResult]:
    """The lines, in the order in which a restore would meet them."""
    backup = newest(found.repositories)
    lines = list(_repositories(found.repositories))
    if backup is None:
        missing = ObjectNotFound("there is no backup to restore", hint="take one: etcdguard backup")
        return [*lines, _error("backup", missing)]
    return [
        *lines,
        _age("backup", backup, thresholds["backup_age"], found.now, "take one, and see why there is none"),
        _verified(found, thresholds["verified_age"]),
        _signature(backup),
        _key(found.key),
        _tool(found.tool),
        *_plan(found.plan),
        *_hosts(found),
    ]


def _repositories(found: Mapping[str, Listing | EtcdGuardError]) -> Iterator[CheckResult]:
    usable = any(isinstance(listing, Listing) and listing.backups for listing in found.values())
    for name, listing in found.items():
        if isinstance(listing, EtcdGuardError):
            # With another one a restore works all the same.
            outcome = Outcome.WARN if usable else Outcome.FAIL
            yield _line(
                f"repository.{name}", outcome, listing.message, hint=listing.hint, error=type(listing)
            )
        elif listing.problems:
            bad = ", ".join(problem.id for problem in listing.problems)
            value = f"{counted(len(listing.backups), 'backup')}; not restorable: {bad}"
            hint = "see why: etcdguard verify --all"
            yield _line(f"repository.{name}", Outcome.WARN, value, hint=hint)
        else:
            yield _line(f"repository.{name}", Outcome.OK, counted(len(listing.backups), "backup"))


def _age(name: str, backup: Backup, limits: Limits, now: datetime, hint: str) -> CheckResult:
    seconds = max(0.0, (now - backup.manifest.created_at).total_seconds())
    outcome = limits.judge(seconds)
    value = f"{backup.id}, {limits.text(seconds)} old"
    return _line(name, outcome, value, limits, None if outcome is Outcome.OK else hint, Stale)


def _verified(found: Prospect, limits: Limits) -> CheckResult:
    """Every byte of it has been read and compared, which a listing does not do."""
    hint = "prove one: etcdguard verify latest --level data"
    backups = [
        backup
        for listing in found.repositories.values()
        if isinstance(listing, Listing)
        for backup in listing.backups
        if backup.standing.proven("data") is not None
    ]
    if not backups:
        return _line("verified", Outcome.WARN, "no backup's data has ever been verified", limits, hint)
    newest_of_them = max(backups, key=lambda backup: backup.manifest.created_at)
    return _age("verified", newest_of_them, limits, found.now, hint)


def _signature(backup: Backup) -> CheckResult:
    try:
        backup.require_trusted()
    except EtcdGuardError as e:
        return _error("signature", e)
    return _line("signature", Outcome.OK, f"signed by {backup.signer}")


def _key(key: Key | None) -> CheckResult:
    if key is None:
        return _line("key", Outcome.SKIP, "there is no backup to open")
    if not key.needed:
        return _line("key", Outcome.OK, "backups are not encrypted")
    if key.offline:
        return _line(
            "key",
            Outcome.WARN,
            "there is no identity on this machine",
            hint="have it at hand for a restore; --identity FILE proves that it opens the newest backup",
        )
    if key.problem is not None:
        return _error("key", key.problem)
    return _line("key", Outcome.OK, "opens the newest backup")


def _tool(tool: Tool | EtcdGuardError) -> CheckResult:
    if isinstance(tool, EtcdGuardError):
        return _error("tool", tool)
    return _line("tool", Outcome.OK, f"{tool.path}, {tool.kind} {tool.version_text}")


def _plan(plan: RestorePlan | EtcdGuardError | None) -> Iterator[CheckResult]:
    if isinstance(plan, EtcdGuardError):
        yield _error("plan", plan)
    elif plan is None:
        yield _line("plan", Outcome.SKIP, "without a tool there is no plan")
    else:
        names = ", ".join(member.name for member in plan.members)
        yield _line("plan", Outcome.OK, f"{plan.backup_id} onto {names}")


def _hosts(found: Prospect) -> Iterator[CheckResult]:
    offline = found.key is not None and found.key.offline
    for host, answer in found.hosts.items():
        yield _host(host, answer, offline=offline)
    if not isinstance(found.plan, RestorePlan):
        return
    elsewhere = [member.name for member in found.plan.members if member.host is None]
    if elsewhere:
        yield _line(
            "hosts",
            Outcome.SKIP,
            f"not known where these are: {', '.join(elsewhere)}",
            hint="set members[].host, or run this on each host",
        )


def _host(host: str, answer: Answer, *, offline: bool) -> CheckResult:
    if isinstance(answer, EtcdGuardError):
        return _error(f"host.{host}", answer)
    findings = [one for one in answer.findings if _matters(one, offline=offline)]
    if not findings:
        value = f"etcdguard {answer.version}: tool, directories, space, repository and services are ready"
        runs = any(one.check == _NOT_ABOUT_A_LIVING_CLUSTER for one in answer.findings)
        advice = "no service is configured for a member here: stop etcd before a restore" if runs else None
        return _line(f"host.{host}", Outcome.OK, value, hint=advice)
    message = "; ".join(one.message for one in findings)
    hint = "; ".join(dict.fromkeys(one.hint for one in findings))
    return _error(f"host.{host}", type(findings[0].error(host))(message, hint=hint))


def _matters(finding: StepError, *, offline: bool) -> bool:
    return finding.check != _NOT_ABOUT_A_LIVING_CLUSTER and not (offline and finding.check == "key")


def _error(name: str, error: EtcdGuardError) -> CheckResult:
    return _line(name, Outcome.FAIL, error.message, hint=error.hint, error=type(error))


def _line(
    name: str,
    outcome: Outcome,
    value: str,
    limits: Limits | None = None,
    hint: str | None = None,
    error: type[EtcdGuardError] = Refused,
) -> CheckResult:
    return CheckResult(
        _PREFIX + name, outcome, value, None if limits is None else str(limits), hint, error=error
    )
