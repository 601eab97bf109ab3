"""The JSON that is published: every field in the schema, and every field of the schema there."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from etcdguard.audit.document import report
from etcdguard.cli.output import render
from etcdguard.model import Tool
from etcdguard.retention import Policy
from tests.unit.audit.scenes import Scene

SCHEMA = json.loads((Path(__file__).parents[3] / "docs" / "audit.schema.json").read_text())


def closed(schema: Any) -> Any:
    """The schema with no room for fields that it does not name."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: closed(value) for name, value in schema.items()}
    if "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


def published(scene: Scene) -> Any:
    case = scene.case()
    document = report([scene.report()], case.period, case.now, Tool(name="etcdguard", version="1"))
    return json.loads(render(document, "json", lambda _: ""))


def checked(document: Any) -> None:
    validator = jsonschema.Draft202012Validator(closed(SCHEMA), format_checker=jsonschema.FormatChecker())
    validator.validate(document)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_a_full_report_fits_the_schema(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "one", "two")
    ids = scene.hours(4)
    scene.verify(ids[0])
    scene.drill(ids[1])
    scene.hold(ids[2])
    scene.hold(ids[3])
    scene.release(ids[3])
    scene.prune(Policy(keep_last=1))
    scene.store.put(scene.object_key(ids[2]), b"short")
    scene.hours(1)
    document = published(scene)
    checked(document)
    (cluster,) = document["clusters"]
    assert cluster["name"] == "prod"
    for name in ("controls", "policy_changes", "gaps", "backups", "verifications", "deletions", "holds"):
        assert cluster[name], f"nothing of {name} was checked"
    assert cluster["hold_changes"]
    assert any(control["findings"] for control in cluster["controls"])


def test_an_empty_report_fits_the_schema(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.clock.now()
    document = published(scene)
    checked(document)
    assert document["clusters"][0]["backups"] == []


def test_the_schema_lets_nothing_else_pass(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.hours(1)
    document = published(scene)
    changes: list[Callable[[Any], object]] = [
        lambda found: found.pop("period"),
        lambda found: found["clusters"][0]["backups"][0].pop("copies"),
        lambda found: found["clusters"][0].update(outcome="GOOD"),
        lambda found: found["clusters"][0]["measures"].update(success_rate=1.5),
        lambda found: found["clusters"][0].update(more=1),
    ]
    for change in changes:
        other = copy.deepcopy(document)
        change(other)
        with pytest.raises(jsonschema.ValidationError):
            checked(other)
