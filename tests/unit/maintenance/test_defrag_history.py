"""What earlier runs have left: when members were defragmented, and how often it failed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from etcdguard.maintenance.defrag.history import facts_of, read_history
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup, MemberResult, Plan
from tests.support.defrag_facts import NOW, facts, survey


def event(number: int, outcome: str, done: tuple[str, ...] = (), *, cluster: str = "c1") -> dict[str, Any]:
    return {
        "run": f"run-{number}",
        "at": (NOW + timedelta(hours=number)).isoformat(),
        "cluster_id": cluster,
        "outcome": outcome,
        "members": [{"id": one, "outcome": "done"} for one in done] + [{"id": "x", "outcome": "failed"}],
    }


def test_what_is_recorded_is_read_back() -> None:
    results = (
        MemberResult(facts(2), "done", None, 400, 100, 1.5),
        MemberResult(facts(1), "skipped", "it leads", 0),
    )
    report = DefragReport(
        "partial", Plan(survey(), (), ()), FreshBackup("b", NOW, "data"), results, "it leads"
    )
    recorded = {"at": NOW.isoformat(), **facts_of(report)}
    assert recorded["members"][0] == {
        "id": "a2",
        "name": "etcd-2",
        "outcome": "done",
        "reason": None,
        "before_bytes": 400,
        "after_bytes": 100,
        "seconds": 1.5,
    }
    history = read_history([recorded], "c1")
    assert history.last == {"a2": NOW}
    assert history.failures == 1
    assert facts_of(report)["run"] != recorded["run"]


def test_only_this_cluster_counts_and_each_run_once() -> None:
    events = [
        event(1, "failed"),
        event(1, "failed"),
        event(2, "partial", ("a",)),
        event(3, "failed", cluster="c2"),
    ]
    history = read_history(events, "c1")
    assert history.failures == 2
    assert dict(history.last) == {"a": NOW + timedelta(hours=2)}


@given(st.lists(st.sampled_from(["done", "failed", "partial", "interrupted"]), max_size=8), st.randoms())
def test_failures_since_the_last_success(outcomes: list[str], random: Any) -> None:
    events = [event(number, outcome, ("a",)) for number, outcome in enumerate(outcomes)]
    random.shuffle(events)
    tail = outcomes[len(outcomes) - outcomes[::-1].index("done") :] if "done" in outcomes else outcomes
    history = read_history(events, "c1")
    assert history.failures == sum(one in ("failed", "partial") for one in tail)
    assert (history.last.get("a") == NOW + timedelta(hours=len(outcomes) - 1)) == bool(outcomes)
