"""A plan file is read as it was written, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcdguard.errors import Refused, UsageError
from etcdguard.restore.plan import plan_document, read_plan, write_plan
from etcdguard.restore.planner import Choices
from tests.unit.restore.test_planner import plan_of

PLAN = plan_of(choices=Choices(wal_dirs={"m2": "/wal"}, here=frozenset({"m1"}), bump=9, mark_compacted=True))


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for key, item in value.items() for leaf in _leaves(item, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, item in enumerate(value) for leaf in _leaves(item, (*path, index))]
    return [path]


DOCUMENT = plan_document(PLAN)
LEAVES = _leaves(DOCUMENT)


def test_a_plan_survives_its_file() -> None:
    assert read_plan(write_plan(PLAN)) == PLAN


def test_the_document_has_what_scripts_rely_on() -> None:
    plan = DOCUMENT["plan"]

    assert DOCUMENT["schema_version"] == 1
    assert DOCUMENT["digest"].startswith("sha256:")
    assert {"backup_id", "token", "cluster_id", "initial_cluster", "members", "steps"} <= set(plan)
    assert all({"name", "host", "member_id", "data_dir", "argv"} <= set(one) for one in plan["members"])
    phases = [step["phase"] for step in plan["steps"]]
    assert list(dict.fromkeys(phases)) == ["preflight", "stage", "gate", "swap", "record"]


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: ".".join(map(str, leaf)))
def test_no_field_can_be_edited(leaf: tuple[str | int, ...]) -> None:
    document = json.loads(json.dumps(DOCUMENT))
    holder = document
    for key in leaf[:-1]:
        holder = holder[key]
    old = holder[leaf[-1]]
    holder[leaf[-1]] = old + 1 if isinstance(old, int) else f"{old}0" if isinstance(old, str) else "x"

    with pytest.raises(Refused) as refusal:
        read_plan(json.dumps(document).encode())

    assert "make a new one" in refusal.value.hint


def test_an_edit_that_makes_no_sense_is_still_just_a_changed_file() -> None:
    with pytest.raises(Refused):
        read_plan(write_plan(PLAN).replace(b"http://10.0.0.1:2380", b"10.0.0.1"))


def test_a_field_that_was_slipped_in_is_noticed() -> None:
    document = json.loads(json.dumps(DOCUMENT))
    document["plan"]["members"][0]["run_as"] = "root"

    with pytest.raises(Refused, match="was changed"):
        read_plan(json.dumps(document).encode())


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["schema_version", "digest", "plan", "x"]), inner, max_size=4)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_other_files_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(Refused) as refusal:
        read_plan(data)

    assert "\n" not in refusal.value.message


def test_asking_for_a_member_it_does_not_have() -> None:
    with pytest.raises(UsageError, match="no member 'm9'") as refusal:
        PLAN.member("m9")

    assert refusal.value.hint == "it restores m1, m2, m3"
