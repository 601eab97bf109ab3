from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from etcdguard.config import Config, parse
from etcdguard.daemon.jobs import CLUSTER_JOBS, jobs_of
from etcdguard.errors import ConfigError


def config(**sections: Any) -> Config:
    text = yaml.safe_dump({"cluster": {"name": "prod"}, "encryption": {"disabled": True}, **sections})
    return parse(text, Path("/etc/etcdguard/config.yaml"), {}).config


def test_every_schedule_is_a_job_and_shipping_always_is() -> None:
    everything = config(
        backup={"schedule": ["1h", "daily at 02:30 Europe/Berlin"]},
        verify={"data": "1d", "drill": "1w"},
        checks={"schedule": "1m"},
        defrag={"schedule": "daily at 03:00"},
        retention={"keep_last": 1, "schedule": "daily at 04:00"},
        daemon={"ship": "90s", "job_timeout": "2h"},
    )
    jobs = {job.name: job for job in jobs_of(everything, lambda words: True)}
    assert set(jobs) == {*CLUSTER_JOBS, "ship"}
    assert {name for name, job in jobs.items() if job.scope == "cluster"} == set(CLUSTER_JOBS)
    assert {name for name, job in jobs.items() if job.fenced} == {"backup"}
    assert {name for name, job in jobs.items() if not job.catch_up} == {"defrag"}
    assert {job.timeout for job in jobs.values()} == {timedelta(hours=2)}
    assert jobs["ship"].schedule.shortest == timedelta(seconds=90)
    assert all(job.unavailable is None for job in jobs.values())


def test_a_command_that_is_not_there_is_said() -> None:
    asked = []

    def has(words: Any) -> bool:
        asked.append(tuple(words))
        return tuple(words) != ("check", "cluster")

    jobs = jobs_of(config(backup={"schedule": "1h"}, checks={"schedule": "1m"}), has)
    assert asked == [("backup",), ("check", "cluster")]
    assert [job.name for job in jobs if job.unavailable] == ["check"]


def test_nothing_is_made_up_for_where_that_is_not_wanted() -> None:
    jobs = jobs_of(config(backup={"schedule": "1h"}, daemon={"catch_up": False}), lambda words: True)
    assert {job.name: job.catch_up for job in jobs} == {"backup": False, "ship": True}


def test_a_daemon_without_jobs_is_refused() -> None:
    with pytest.raises(ConfigError, match="no job has a schedule"):
        jobs_of(config(), lambda words: True)
