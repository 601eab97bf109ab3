"""What somebody is told, and when it is not worth telling."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from etcdguard.daemon.observe.problems import problems
from etcdguard.slots import parse_schedule
from tests.unit.daemon.observe.states import CHECKS, HOUR, MINUTE, NOW, job, repository, run, state

HOURLY = parse_schedule(["1h"])


def test_nothing_is_wrong() -> None:
    jobs = [job(last=run()), job("check", run(document={"checks": CHECKS["checks"][:1]})), job("verify")]
    assert problems(state(*jobs), [repository(30 * MINUTE)], HOURLY) == {}


def test_a_failed_job_with_its_reason() -> None:
    failed = run("failed", error="the bucket is gone")
    (one,) = problems(state(job(last=failed, failures=1)), [], None).values()
    assert (one.key, one.severity) == ("job:backup", "warning")
    assert (one.summary, one.hint) == ("job backup failed: the bucket is gone", "mend it")
    (worse,) = problems(state(job(last=failed, failures=3, circuit_open=True)), [], None).values()
    assert (worse.key, worse.severity) == ("job:backup", "critical")
    assert "3 times in a row" in worse.summary


def test_checks_that_warn_or_fail() -> None:
    found = problems(state(job("check", run("failed", document=CHECKS))), [], None)
    assert {key: one.severity for key, one in found.items()} == {"check:alarms": "critical"}
    assert found["check:alarms"].hint == "defrag"


def test_the_daemon_itself() -> None:
    found = problems(state(role="no_lock", lock_problem="etcd is down", config_problem="bad YAML"), [], None)
    assert set(found) == {"lock", "config"}
    assert "etcd is down" in found["lock"].summary
    assert "bad YAML" in found["config"].summary


def test_a_repository_that_does_not_answer() -> None:
    (one,) = problems(state(), [replace(repository(HOUR), error="timed out")], None).values()
    assert (one.key, one.severity) == ("repository:main", "warning")


@pytest.mark.parametrize(
    ("age", "severity"),
    [
        (timedelta(minutes=59), None),
        (timedelta(minutes=119), None),  # at noon the slots of noon and 11 have passed, the second just now
        (timedelta(minutes=121), "warning"),
        (timedelta(minutes=239), "warning"),
        (timedelta(minutes=241), "critical"),
    ],
)
def test_a_repository_that_lacks_scheduled_backups(age: timedelta, severity: str | None) -> None:
    at = NOW - timedelta(seconds=1)
    found = problems(state(at=at), [repository(age)], HOURLY)
    assert [one.severity for one in found.values()] == ([] if severity is None else [severity])
    assert problems(state(at=at), [repository(age)], None) == {}


def test_a_schedule_with_long_gaps_is_no_alarm() -> None:
    """Every weekday at noon: on Sunday the backup of Friday is as young as it can be."""
    weekdays = parse_schedule(["mon, tue, wed, thu, fri at 12:00 UTC"])
    sunday = NOW + timedelta(days=1)  # NOW is a Saturday
    friday = repository(timedelta(days=1) - MINUTE)
    assert problems(state(at=sunday), [friday], weekdays) == {}


def test_a_new_repository_is_given_time() -> None:
    assert problems(state(started_at=NOW - 59 * MINUTE), [repository()], HOURLY) == {}
    (one,) = problems(state(started_at=NOW - 3 * HOUR), [repository()], HOURLY).values()
    assert (one.severity, one.summary) == ("critical", "repository main holds no backup")
    never_asked = replace(repository(), asked_at=None)
    assert problems(state(), [never_asked], HOURLY) == {}
