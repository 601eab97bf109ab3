"""The dashboard as Grafana Labs' own typed model of dashboards (11.6) reads it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.daemon.test_monitoring_files import DASHBOARD

pytest.importorskip("grafana_foundation_sdk", reason="Grafana's model of dashboards needs Python 3.11")

from grafana_foundation_sdk.cog import plugins, runtime
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

_Change = Callable[[dict[str, Any]], None]


def objections(written: dict[str, Any]) -> list[str]:
    """What the model loses, changes or does not know."""
    plugins.register_default_plugins()
    known = runtime.Runtime()
    model = Dashboard.from_json(copy.deepcopy(written))
    found = list(_lost(written, json.loads(json.dumps(model, cls=JSONEncoder)), "dashboard"))
    for panel in written["panels"]:
        # What it does not know it would carry along unread.
        if known.panelcfg_config(panel["type"]) is None:
            found.append(f"panel type {panel['type']}")
        if panel["datasource"]["type"] not in known.dataquery_variants:
            found.append(f"data source type {panel['datasource']['type']}")
    return found


def _lost(before: Any, after: Any, place: str) -> Iterator[str]:
    """Where ``after`` lacks what ``before`` has; the model may add defaults."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from _lost(value, after[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _lost(one, other, f"{place}[{number}]")
    elif before != after:
        yield place


def test_every_field_of_the_dashboard_is_one_of_grafanas() -> None:
    assert objections(json.loads(DASHBOARD.read_text())) == []


def _rename(*path: str) -> _Change:
    def change(dashboard: dict[str, Any]) -> None:
        at: Any = dashboard
        for key in path[:-1]:
            at = at[int(key) if isinstance(at, list) else key]
        at[f"{path[-1]}s"] = at.pop(path[-1])

    return change


def _unknown_panel(dashboard: dict[str, Any]) -> None:
    dashboard["panels"][0]["type"] = "singlestat"


def _unknown_source(dashboard: dict[str, Any]) -> None:
    dashboard["panels"][0]["datasource"]["type"] = "prom"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_rename("refresh"), "dashboard.refreshs"),
        (_rename("templating", "list", "0", "query"), "dashboard.templating.list[0].querys"),
        (_rename("panels", "0", "gridPos"), "dashboard.panels[0].gridPoss"),
        (_rename("panels", "0", "targets", "0", "expr"), "dashboard.panels[0].targets[0].exprs"),
        (_rename("panels", "0", "options", "colorMode"), "dashboard.panels[0].options.colorModes"),
        (
            _rename("panels", "0", "fieldConfig", "defaults", "unit"),
            "dashboard.panels[0].fieldConfig.defaults.units",
        ),
        (_unknown_panel, "panel type singlestat"),
        (_unknown_source, "data source type prom"),
    ],
    ids=["dashboard", "variable", "place", "query", "option", "field", "panel-type", "source-type"],
)
def test_what_is_misspelt_is_noticed(change: _Change, named: str) -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    change(dashboard)
    assert named in objections(dashboard)
