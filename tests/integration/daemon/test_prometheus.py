"""A real Prometheus scrapes a real daemon, judges the rules, and answers every panel of the dashboard."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from etcdguard.etcd.local import LocalCluster, ReservedPort
from tests.e2e.daemons import Running
from tests.e2e.running import Installation
from tests.integration.daemon.test_monitoring_files import DASHBOARD, RULES
from tests.support.commands import command_path
from tests.support.waiting import eventually

JOBS = {"backup", "verify", "check", "ship"}
ON_A_GOOD_DAY = {
    # No job waits for so long that these could fire, and this machine's disk is nobody's business here.
    "EtcdguardCheckWarns",
    "EtcdguardCheckFails",
    "EtcdguardNotDrilled",
}


class Prometheus:
    """Its HTTP interface."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: str) -> Any:
        url = f"{self._url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found = self.get("/api/v1/query", query=expression)
        assert found["resultType"] == "vector"
        result: list[dict[str, Any]] = found["result"]
        return result

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Scrapes every second."""
    shutil.copy(RULES, folder)
    job = {"job_name": "etcdguard", "static_configs": [{"targets": [target]}]}
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [RULES.name],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    with ReservedPort() as port, (folder / "log").open("w") as log:
        argv = [
            command_path("prometheus"), "--config.file=prometheus.yaml", "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port.number}",
        ]  # fmt: skip
        process = subprocess.Popen(argv, cwd=folder, stdout=log, stderr=log)
        server = Prometheus(port.number)
        try:
            eventually(lambda: process.poll() is not None or server.ready(), "Prometheus is ready")
            assert process.poll() is None, (folder / "log").read_text()
            yield server
        finally:
            process.kill()
            process.wait()


def has_data(server: Prometheus, expression: str) -> list[dict[str, Any]]:
    """What it answers, once it answers anything."""
    eventually(lambda: bool(server.query(expression)), f"there is data for {expression}")
    return server.query(expression)


def reported(daemon: Running, job: str) -> Callable[[], bool]:
    return lambda: daemon.count("job.finished", job=job) + daemon.count("job.failed", job=job) > 0


def test_every_panel_has_data_and_every_rule_can_be_judged(
    tmp_path: Path, shared_cluster: LocalCluster
) -> None:
    here = Installation.of(tmp_path / "here", shared_cluster)
    here.settings["cluster"]["name"] = f"prometheus-{tmp_path.name}"[:60]
    here.settings["backup"]["schedule"] = "1h"
    here.settings["verify"] = {"data": "20s"}
    here.settings["checks"] = {"schedule": "300d", "window": "100ms"}
    here.settings["daemon"]["listen"] = "127.0.0.1:0"
    here.settings["encryption"]["identity_file"] = str(here.identity_file)
    here.save()
    folder = tmp_path / "prometheus"
    folder.mkdir()
    daemon = Running(here, tmp_path)
    try:
        daemon.wait(lambda: daemon.count("status.listening") == 1)
        (port,) = (one["port"] for one in daemon.events if one["event"] == "status.listening")
        with prometheus(folder, f"127.0.0.1:{port}") as server:
            for job in ("backup", "verify", "check"):
                daemon.wait(reported(daemon, job))

            known = has_data(server, "etcdguard_job_next_run_timestamp_seconds")
            assert {one["metric"]["task"] for one in known} == JOBS
            for panel in json.loads(DASHBOARD.read_text())["panels"]:
                for target in panel["targets"]:
                    for one in has_data(server, target["expr"]):
                        for label in _labels(target["legendFormat"]):
                            assert one["metric"].get(label), (panel["title"], label, one)

            def judged() -> bool:
                (group,) = server.get("/api/v1/rules")["groups"]
                return all(rule["health"] == "ok" for rule in group["rules"])

            eventually(judged, "every rule was judged without an error")
            firing = {one["metric"]["alertname"] for one in server.query('ALERTS{alertstate="firing"}')}
            assert firing <= ON_A_GOOD_DAY
    finally:
        daemon.close()


def _labels(legend: str) -> list[str]:
    return [part.partition("}}")[0].strip() for part in legend.split("{{")[1:]]
