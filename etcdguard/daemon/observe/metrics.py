"""The daemon's metrics in Prometheus' text format. Names, units and labels: docs/metrics.md.

Label values come from the configuration and from this program alone, so their number is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from etcdguard.daemon.observe.facts import CheckOutcome, RepositoryFacts, last_checks, missed_slots
from etcdguard.daemon.state import DaemonState, JobState
from etcdguard.slots import Schedule

__all__ = ["CHECK_OUTCOMES", "exposition"]

CHECK_OUTCOMES: dict[CheckOutcome, int] = {"OK": 0, "WARN": 1, "FAIL": 2, "SKIP": 3}
"""Values of ``etcdguard_check_status``."""

_MOST_CHECKS = 200


def exposition(
    state: DaemonState,
    repositories: Sequence[RepositoryFacts],
    schedule: Schedule | None,
    messages_lost: int,
) -> bytes:
    """Everything there is to scrape, now.

    ``schedule`` is that of the backups; ``messages_lost`` counts those to webhooks since the start.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(state, repositories, schedule, messages_lost))
    return generate_latest(registry)


class _Collector:
    def __init__(
        self,
        state: DaemonState,
        repositories: Sequence[RepositoryFacts],
        schedule: Schedule | None,
        messages_lost: int,
    ) -> None:
        self._state = state
        self._repositories = repositories
        self._schedule = schedule
        self._messages_lost = messages_lost

    def collect(self) -> Iterator[Metric]:
        yield from _daemon(self._state)
        yield from _jobs(self._state.jobs)
        yield from _checks(self._state)
        yield from _stored(self._repositories)
        if self._schedule is not None:
            yield _missed(self._state, self._repositories, self._schedule)
        yield CounterMetricFamily(
            "etcdguard_webhook_failures", "Messages that no webhook took.", value=self._messages_lost
        )


def _daemon(state: DaemonState) -> Iterator[Metric]:
    yield InfoMetricFamily("etcdguard_build", "Version of etcdguard.", value={"version": state.version})
    yield _one("etcdguard_daemon_start_time_seconds", "When the daemon was started.", _time(state.started_at))
    yield _one("etcdguard_leader", "1 on the daemon that acts for the cluster.", state.role == "leader")
    yield _one(
        "etcdguard_lock_available",
        "0 while etcd cannot be asked who holds the lock.",
        state.role != "no_lock",
    )
    yield _one(
        "etcdguard_config_last_reload_successful",
        "0 while the daemon goes on with an older configuration.",
        state.config_problem is None,
    )


def _jobs(jobs: Iterable[JobState]) -> Iterator[Metric]:
    def each(name: str, help_text: str) -> GaugeMetricFamily:
        # Not "job": Prometheus gives that label to every scrape, and renames ours.
        return GaugeMetricFamily(f"etcdguard_job_{name}", help_text, labels=["task"])

    last_run = each("last_run_timestamp_seconds", "When the job last ended.")
    last_success = each("last_success_timestamp_seconds", "When the job last ended well.")
    duration = each("last_duration_seconds", "How long its last run took.")
    next_run = each("next_run_timestamp_seconds", "When it is due next.")
    failures = each("consecutive_failures", "Failed runs since the last good one.")
    circuit = each("circuit_open", "1 while it is only tried again after a pause.")
    running = each("running", "1 while it runs.")
    for job in jobs:
        if job.last_run is not None:
            last_run.add_metric([job.name], _time(job.last_run.finished_at))
            duration.add_metric([job.name], job.last_run.seconds)
        if job.last_success is not None:
            last_success.add_metric([job.name], _time(job.last_success.finished_at))
        if job.next_run is not None:
            next_run.add_metric([job.name], _time(job.next_run))
        failures.add_metric([job.name], job.failures)
        circuit.add_metric([job.name], float(job.circuit_open))
        running.add_metric([job.name], float(job.running_since is not None))
    yield from (last_run, last_success, duration, next_run, failures, circuit, running)


def _checks(state: DaemonState) -> Iterator[Metric]:
    status = GaugeMetricFamily(
        "etcdguard_check_status", "Outcome of a check: 0 OK, 1 WARN, 2 FAIL, 3 not made.", labels=["check"]
    )
    for check in last_checks(state)[:_MOST_CHECKS]:
        status.add_metric([check.name], CHECK_OUTCOMES[check.outcome])
    yield status


def _stored(repositories: Iterable[RepositoryFacts]) -> Iterator[Metric]:
    def each(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"etcdguard_{name}", help_text, labels=["repository", *labels])

    up = each("repository_up", "1 if the repository answered when it was last asked.")
    count = each("repository_backups", "Backups in the repository.")
    total = each("repository_stored_bytes", "Bytes that they take.")
    newest = each("backup_last_success_timestamp_seconds", "When the newest backup was begun.")
    revision = each("backup_last_revision", "Revision of the newest backup.")
    database = each("backup_last_db_bytes", "Size of the database in the newest backup.")
    stored = each("backup_last_stored_bytes", "Bytes that the newest backup takes.")
    keys = each("backup_last_keys", "Revisions of keys in the newest backup.")
    verified = each("verified_last_timestamp_seconds", "When a backup was last found sound.", "level")
    for one in repositories:
        up.add_metric([one.name], float(one.asked_at is not None and one.error is None))
        if one.asked_at is None:
            continue
        count.add_metric([one.name], one.count)
        total.add_metric([one.name], one.stored_bytes)
        if one.newest is not None:
            newest.add_metric([one.name], _time(one.newest.created_at))
            revision.add_metric([one.name], one.newest.revision)
            database.add_metric([one.name], one.newest.db_bytes)
            stored.add_metric([one.name], one.newest.stored_bytes)
            keys.add_metric([one.name], one.newest.total_keys)
        for level, levels in (("data", ("data", "drill")), ("drill", ("drill",))):
            at = one.verified_at(*levels)
            if at is not None:
                verified.add_metric([one.name, level], _time(at))
    yield from (up, count, total, newest, revision, database, stored, keys, verified)


def _missed(state: DaemonState, repositories: Iterable[RepositoryFacts], schedule: Schedule) -> Metric:
    missed = GaugeMetricFamily(
        "etcdguard_backup_missed_slots",
        "Scheduled backups since the repository's newest; one may be in the making.",
        labels=["repository"],
    )
    for one in repositories:
        if one.asked_at is not None:
            missed.add_metric([one.name], missed_slots(one, schedule, state))
    return missed


def _one(name: str, help_text: str, value: float | bool) -> Metric:
    return GaugeMetricFamily(name, help_text, value=float(value))


def _time(moment: datetime) -> float:
    return moment.timestamp()
