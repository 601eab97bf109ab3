"""The metrics: read back with the library's own parser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from etcdguard.daemon.observe.metrics import exposition
from etcdguard.slots import parse_schedule
from tests.unit.daemon.observe.states import CHECKS, HOUR, MINUTE, NOW, job, repository, run, state

DOCUMENTED = Path(__file__).parents[4] / "docs" / "metrics.md"


def samples(*args: Any) -> dict[tuple[str, tuple[str, ...]], float]:
    text = exposition(*args).decode()
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def everything() -> dict[tuple[str, tuple[str, ...]], float]:
    jobs = [
        job("backup", run()),
        job("check", run("failed", document=CHECKS), failures=2, circuit_open=True),
        job("drill", next_run=None, running_since=NOW),
    ]
    repositories = [
        repository(3 * HOUR, HOUR, verified="drill"),
        replace(repository(name="offsite"), error="unreachable"),
        replace(repository(name="new"), asked_at=None, error="denied"),
    ]
    return samples(state(*jobs), repositories, parse_schedule(["30m"]), 7)


def test_jobs() -> None:
    found = everything()
    ended = (NOW - 9 * MINUTE).timestamp()
    assert found["etcdguard_job_last_run_timestamp_seconds", ("backup",)] == ended
    assert found["etcdguard_job_last_success_timestamp_seconds", ("backup",)] == ended
    assert ("etcdguard_job_last_success_timestamp_seconds", ("check",)) not in found
    assert found["etcdguard_job_last_duration_seconds", ("backup",)] == 60.5
    assert found["etcdguard_job_next_run_timestamp_seconds", ("backup",)] == (NOW + HOUR).timestamp()
    assert ("etcdguard_job_next_run_timestamp_seconds", ("drill",)) not in found
    assert found["etcdguard_job_consecutive_failures", ("check",)] == 2
    assert found["etcdguard_job_circuit_open", ("check",)] == 1
    assert (found["etcdguard_job_running", ("drill",)], found["etcdguard_job_running", ("backup",)]) == (1, 0)


def test_checks() -> None:
    found = everything()
    status = {labels[0]: value for (name, labels), value in found.items() if name == "etcdguard_check_status"}
    assert status == {"quorum": 0, "alarms": 2, "disk": 3}


def test_repositories() -> None:
    found = everything()
    up = {labels[0]: value for (name, labels), value in found.items() if name == "etcdguard_repository_up"}
    assert up == {"main": 1, "offsite": 0, "new": 0}
    assert found["etcdguard_repository_backups", ("main",)] == 2
    assert found["etcdguard_repository_stored_bytes", ("main",)] == 2000
    newest = (NOW - HOUR).timestamp()
    assert found["etcdguard_backup_last_success_timestamp_seconds", ("main",)] == newest
    assert found["etcdguard_backup_last_revision", ("main",)] == 101
    assert found["etcdguard_backup_last_db_bytes", ("main",)] == 2_000_000
    assert found["etcdguard_backup_last_keys", ("main",)] == 51
    for level in ("data", "drill"):  # a drill proves more than the data check
        at = found["etcdguard_verified_last_timestamp_seconds", (level, "main")]
        assert at == (NOW - MINUTE).timestamp()
    assert found["etcdguard_backup_missed_slots", ("main",)] == 2
    assert found["etcdguard_backup_missed_slots", ("offsite",)] == 48  # since the daemon was started
    assert found["etcdguard_repository_backups", ("offsite",)] == 0
    assert ("etcdguard_repository_backups", ("new",)) not in found


def test_the_daemon() -> None:
    found = everything()
    assert found["etcdguard_build_info", ("1.0",)] == 1
    assert (found["etcdguard_leader", ()], found["etcdguard_lock_available", ()]) == (1, 1)
    assert found["etcdguard_webhook_failures_total", ()] == 7
    other = samples(state(role="no_lock", config_problem="x"), [], None, 0)
    assert (other["etcdguard_leader", ()], other["etcdguard_lock_available", ()]) == (0, 0)
    assert other["etcdguard_config_last_reload_successful", ()] == 0


def test_every_metric_is_documented_and_nothing_else() -> None:
    documented = set(re.findall(r"^\| `(etcdguard_[a-z_]+)", DOCUMENTED.read_text(), re.MULTILINE))
    assert {name for name, _ in everything()} == documented
