"""The daemon as a process: its life by signals, what it tells systemd, its jobs; and timers instead."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from etcdguard.backup.spool import Spool
from etcdguard.etcd.local import LocalCluster
from etcdguard.slots import slot_time
from tests.e2e.daemons import PATIENCE, Running
from tests.e2e.running import Installation
from tests.support.waiting import eventually


@pytest.fixture
def here(tmp_path: Path, shared_cluster: LocalCluster) -> Installation:
    made = Installation.of(tmp_path / "here", shared_cluster)
    made.settings["cluster"]["name"] = f"daemon-{tmp_path.name}"[:60]
    made.settings["backup"]["schedule"] = "1h"
    made.save()
    return made


@pytest.fixture
def running(tmp_path: Path, here: Installation) -> Iterator[Callable[[], Running]]:
    started: list[Running] = []

    def start() -> Running:
        started.append(Running(here, tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.close()


def test_a_life(here: Installation, running: Callable[[], Running]) -> None:
    here.settings["defrag"] = {"schedule": "daily at 03:00 Europe/Berlin"}
    here.settings["verify"] = {"data": "1h"}
    here.settings["encryption"]["identity_file"] = str(here.identity_file)
    here.save()
    daemon = running()
    daemon.wait(lambda: daemon.count("job.finished", job="backup", outcome="ok") > 0)
    assert daemon.told[0] == "READY=1"
    (backup,) = here.json("list")["backups"]
    slot = here.json("show", backup["id"])["manifest"]["slot"]
    assert slot_time(slot).minute == 0
    daemon.wait(lambda: "WATCHDOG=1" in daemon.told)

    here.config_path.write_text("cluster: {")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait(lambda: daemon.count("daemon.reload_failed") == 1)
    assert "RELOADING=1" in daemon.told
    daemon.wait(lambda: daemon.told.count("READY=1") == 2)

    here.settings["backup"]["schedule"] = "10s"
    here.settings["daemon"] = {"ship": "1h"}
    here.save()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait(lambda: daemon.count("daemon.reloaded") == 1)
    here.config_path.write_text("cluster: {")  # what runs next must not mind
    before = daemon.count("job.started", job="backup")
    daemon.wait(
        lambda: (
            daemon.count("job.started", job="backup") > before
            and daemon.count("job.finished", job="backup", outcome="ok") > 1
        )
    )

    daemon.process.terminate()
    assert daemon.process.wait(PATIENCE) == 0
    daemon.reader.join(PATIENCE)
    assert "STOPPING=1" in daemon.told
    assert daemon.count("daemon.stopped") == 1
    assert Spool(here.spool).slots(here.settings["cluster"]["name"]) == {}


def test_an_empty_repository_is_nothing_to_verify_yet_and_an_emptied_one_is_a_failure(
    here: Installation, running: Callable[[], Running]
) -> None:
    del here.settings["backup"]["schedule"]
    here.settings["verify"] = {"data": "20s"}
    here.settings["encryption"]["identity_file"] = str(here.identity_file)
    here.save()
    daemon = running()
    daemon.wait(lambda: daemon.count("job.waiting", job="verify", reason="no backup has been taken yet") > 0)
    here.run("backup")
    daemon.wait(lambda: daemon.count("job.finished", job="verify", outcome="ok") > 0)
    assert daemon.count("job.failed") == 0
    daemon.process.terminate()
    assert daemon.process.wait(PATIENCE) == 0

    (backup_id,) = here.ids()
    shutil.rmtree(here.repository / here.settings["cluster"]["name"] / "backups" / backup_id)
    error, _ = here.run("verify", "--if-any", code=10).problem
    assert "no backup of cluster" in error


def test_it_refuses_what_it_cannot_run(here: Installation) -> None:
    here.settings["backup"]["schedule"] = "daily at 02:30 Europe/Berlim"
    here.save()
    error, hint = here.run("daemon", code=64).problem
    assert "backup.schedule: unknown time zone 'Europe/Berlim'" in error
    assert "daily at 02:00" in hint
    del here.settings["backup"]["schedule"]
    here.save()
    assert "no job has a schedule" in here.run("daemon", code=64).problem[0]
    assert "there is no schedule" in here.run("backup", "--if-due", code=64).problem[0]
    here.settings["backup"]["schedule"] = "1h"
    here.settings["repositories"] = []
    here.save()
    assert "no repository is configured" in here.run("daemon", code=64).problem[0]


def test_what_is_broken_around_it_degrades_it_and_is_told(
    here: Installation, running: Callable[[], Running]
) -> None:
    """A spool that takes nothing and a deaf webhook; then a taken port, and a key that is gone."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        spool, here.settings["backup"]["spool_dir"] = here.settings["backup"]["spool_dir"], "/proc/etcdguard"
        here.settings["backup"]["schedule"] = "10s"
        here.settings["notify"] = {"webhooks": [f"http://127.0.0.1:{nobody.getsockname()[1]}/secret"]}
        here.settings["daemon"]["listen"] = "127.0.0.1:0"
        here.save()
        daemon = running()
        daemon.wait(lambda: daemon.count("job.failed", job="backup", code=1) > 0)
        daemon.wait(lambda: daemon.count("webhook.failed", gave_up=True) > 0)
        (port,) = (one["port"] for one in daemon.events if one["event"] == "status.listening")
        wait_for_metrics(port, 'job_consecutive_failures{task="backup"}', "webhook_failures_total")
        told = [one for one in daemon.events if one["event"] == "job.failed" and one["job"] == "backup"]
        assert "/proc/etcdguard" in told[0]["error"]
        assert told[0]["hint"]
        assert "secret" not in json.dumps(daemon.events)

        nobody.listen()
        here.settings["daemon"]["listen"] = f"127.0.0.1:{nobody.getsockname()[1]}"
        here.settings["backup"]["spool_dir"] = spool
        here.settings["notify"] = {}
        key = here.folder / here.settings["signing"]["key_file"]
        away = key.rename(key.with_suffix(".away"))
        here.save()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait(lambda: daemon.count("status.not_listening") == 1)
        daemon.wait(lambda: daemon.count("job.failed", job="backup", code=12) > 0)
        away.rename(key)
        daemon.wait(lambda: daemon.count("job.finished", job="backup", outcome="ok") > 0)


def wait_for_metrics(port: int, *names: str) -> None:
    """Until all of them are above 0."""

    def values() -> dict[str, float]:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    eventually(lambda: all(values()[f"etcdguard_{name}"] > 0 for name in names), f"{names} above 0")


def test_timers_of_five_nodes_at_once_make_one_backup(here: Installation, tmp_path: Path) -> None:
    nodes = [here, *(here.copy(tmp_path / f"node-{number}") for number in range(2, 6))]
    for node in nodes:
        node.settings["repositories"] = here.settings["repositories"]
        node.save()

    def fire(node: Installation) -> Any:
        return node.json("backup", "--if-due")

    with ThreadPoolExecutor(len(nodes)) as pool:
        documents = list(pool.map(fire, nodes))
    made = [one for one in documents if one["outcome"] == "created"]
    slots = {one["slot"] for one in documents}
    assert len(made) == len(slots)  # two only when the hour struck meanwhile
    assert len(here.ids()) == len(slots)
    for one in documents:
        if one["outcome"] == "skipped":
            assert one["satisfied"]
            assert "the slot has backup" in one["reason"]


def test_flags_that_exclude_each_other(here: Installation) -> None:
    assert "do not go together" in here.run("backup", "--if-due", "--emergency", code=64).problem[0]
    assert "do not go together" in here.run("backup", "--if-due", "--max-rate", "1GiB", code=64).problem[0]
    assert "less than 1MiB a second" in here.run("backup", "--max-rate", "1", code=64).problem[0]
    assert here.json("backup", "--spooled")["backups"] == []


def test_a_daemon_without_etcd_stands_by_and_ends_when_told(
    here: Installation, running: Callable[[], Running]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        here.settings["cluster"]["endpoints"] = [f"http://127.0.0.1:{nobody.getsockname()[1]}"]
        here.save()
        daemon = running()
        daemon.wait(lambda: daemon.count("daemon.no_lock") == 1)
        daemon.wait(lambda: daemon.count("job.failed", job="backup", code=2) > 0)
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(PATIENCE) == 0
