"""The alert rules under Prometheus' own test tool; rules, dashboard and documents speak of real metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.commands import command_path

ROOT = Path(__file__).parents[3]
RULES = ROOT / "config" / "prometheus-rules.yaml"
DASHBOARD = ROOT / "config" / "grafana-dashboard.json"
CASES = Path(__file__).with_name("prometheus-rules.test.yaml")
_METRIC = re.compile(r"\betcdguard_[a-z_]+\b")


def documented() -> set[str]:
    """tests/unit/daemon/observe holds these against what the daemon really shows."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    return set(re.findall(r"^\| `(etcdguard_[a-z_]+)", text, re.MULTILINE))


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def _promtool(folder: Path, *args: str) -> None:
    promtool = command_path("promtool", package="prometheus")
    done = subprocess.run([promtool, *args], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_on_a_good_day(tmp_path: Path) -> None:
    for file in (RULES, CASES):
        shutil.copy(file, tmp_path)
    _promtool(tmp_path, "check", "rules", RULES.name)
    _promtool(tmp_path, "test", "rules", CASES.name)


def test_every_alert_has_cases_for_both_and_a_document() -> None:
    quiet: set[str] = set()
    firing: set[str] = set()
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for expected in case["alert_rule_test"]:
            (firing if expected["exp_alerts"] else quiet).add(expected["alertname"])
    names = {alert["alert"] for alert in alerts()}
    assert quiet >= names
    assert firing == names
    headings = re.findall(r"^## (Etcdguard\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in alerts()]


def test_the_rules_speak_of_metrics_that_there_are() -> None:
    used = {name for alert in alerts() for name in _METRIC.findall(alert["expr"])}
    assert used <= documented()
    assert all(alert["labels"]["severity"] in ("warning", "critical") for alert in alerts())


def _expressions(panels: list[dict[str, Any]]) -> Iterator[str]:
    for panel in panels:
        for target in panel.get("targets", ()):
            yield target["expr"]


def test_the_dashboard_loads_and_asks_for_metrics_that_there_are(tmp_path: Path) -> None:
    """What Grafana's own model (test_grafana_model) lets pass: it sees fields, not what they hold."""
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert dashboard["schemaVersion"] >= 36  # Grafana 9, the first with datasources as objects throughout
    assert not {"__inputs", "__requires", "id"} & set(dashboard), (
        "it would ask for what this file cannot give"
    )
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["type"] in ("stat", "timeseries", "state-timeline"), "built into Grafana"
        assert panel["title"]
        assert set(panel["fieldConfig"]) == {"defaults", "overrides"}
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references)) != []
        steps = panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [{"value": None}])
        assert steps[0]["value"] is None, "the first step is the base colour"
    assert dashboard["templating"]["list"][0]["name"] == "datasource"
    expressions = list(_expressions(panels))
    assert {name for one in expressions for name in _METRIC.findall(one)} <= documented()
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions)]
    checked = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "dashboard.yaml").write_text(yaml.safe_dump(checked))
    _promtool(tmp_path, "check", "rules", "dashboard.yaml")
