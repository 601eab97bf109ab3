"""How ``defrag`` tells what it did and would do, and the code it ends with."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etcdguard import app_defrag
from etcdguard.app import App
from etcdguard.etcd.source import Alarm
from etcdguard.maintenance.defrag.facts import MIB, History, Policy
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup, MemberResult, Outcome, make_plan
from tests.support.defrag_facts import GIB, NOW, facts, survey
from tests.unit.cli.running import MINIMAL, run

POLICY = Policy()
BACKUP = FreshBackup("20261121T100000Z-r00000000000000004000-9f31c2aa", NOW, "data")
LEARNER = facts(4, learner=True, is_learner=True)
NOSPACE = Alarm("a2", "NOSPACE")


def report(outcome: Outcome, *, alarms: tuple[Alarm, ...] = (), **changes: Any) -> DefragReport:
    members = [facts(1), facts(2), facts(3, db_size=MIB, db_size_in_use=MIB)]
    plan = make_plan(survey(members, alarms), POLICY, History({}), NOW)
    return DefragReport(outcome, plan, **changes)


class Ended:
    """A job that ends with this report, and how the command was told to build it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.report = report("nothing")
        self.policies: list[Policy] = []
        self.calls: list[str] = []
        self.path = tmp_path / "config.yaml"
        self.path.write_text(MINIMAL)
        client = type("Client", (), {"endpoints": ("http://c:1",), "topology": lambda _: survey().topology})()
        monkeypatch.setattr(App, "etcd_admin", lambda _: nullcontext(client))
        monkeypatch.setattr(App, "lock", self._lock)
        monkeypatch.setattr(app_defrag, "defrag_job", self._job)

    def _lock(self, name: str, endpoints: tuple[str, ...]) -> Any:
        self.calls.append(f"lock {name} at {' '.join(endpoints)}")
        return nullcontext()

    def _job(self, _app: App, _client: object, _lock: object, policy: Policy, *_: Any, **hooks: Any) -> Any:
        self.policies.append(policy)
        hooks["tell"]("as it goes")
        return self

    def plan(self) -> DefragReport:
        self.calls.append("plan")
        return self.report

    def run(self) -> DefragReport:
        self.calls.append("run")
        return self.report


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ended:
    return Ended(monkeypatch, tmp_path)


def rows(out: str) -> list[list[str]]:
    table = out.split("\n\n")[0]
    return [line.split() for line in table.splitlines()[1:]]


def notes(out: str) -> list[str]:
    return out.rstrip("\n").split("\n\n")[1].splitlines()


def test_a_plan_is_only_looked_at(job: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    job.report = report("planned", backup=BACKUP)
    assert run("--config", job.path, "defrag", "--dry-run") == 0
    out, err = capsys.readouterr()
    assert err == "as it goes\n"
    assert [[*row[:3], row[7]] for row in rows(out)] == [
        ["1", "etcd-2", "follower", "defragment"],
        ["2", "etcd-1", "leader", "defragment"],
        ["-", "etcd-3", "follower", "skip"],
    ]
    assert notes(out) == [f"backup: {BACKUP.id}"]
    assert job.calls == [
        "lock maintenance at http://c:1 http://127.0.0.1:2379 http://127.0.0.2:2379 http://127.0.0.3:2379",
        "plan",
    ]
    assert job.policies == [POLICY]


def test_a_plan_without_a_backup_says_that_one_would_be_taken(
    job: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    job.report = report("planned")
    assert run("--config", job.path, "defrag", "--dry-run", "-q") == 0
    out, err = capsys.readouterr()
    assert (notes(out), err) == (["backup: none is young enough, one would be taken"], "")


def test_what_speaks_against_a_plan_is_in_it_and_in_the_code(
    job: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [facts(1), facts(2), LEARNER]
    job.report = DefragReport("planned", make_plan(survey(members), POLICY, History({}), NOW))
    assert run("--config", job.path, "defrag", "--dry-run", "-q") == 15
    out, err = capsys.readouterr()
    assert notes(out)[:2] == [
        "not now: etcd-4 is a learner: the cluster's members are being changed",
        "not now: with 2 voters, everything stops while one is defragmented",
    ]
    assert rows(out)[-1][:3] == ["-", "etcd-4", "learner"]
    assert err.startswith("error: no member is defragmented: etcd-4 is a learner")


def test_a_plan_of_nothing_ends_well_whatever_speaks_against_it(
    job: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    members = [facts(n, db_size_in_use=400 * MIB) for n in (1, 2)]
    job.report = DefragReport("planned", make_plan(survey(members), POLICY, History({}), NOW))
    assert run("--config", job.path, "defrag", "--dry-run", "-q") == 0
    assert notes(capsys.readouterr().out) == [
        "not now: with 2 voters, everything stops while one is defragmented"
    ]


def test_what_was_done_to_each_member(job: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    results = (
        MemberResult(facts(2), "done", None, 400 * MIB, 101 * MIB, 4.2),
        MemberResult(facts(1), "failed", "it did not shrink", 400 * MIB, 400 * MIB, 3.0),
    )
    job.report = report("partial", backup=BACKUP, results=results, reason="etcd-1: it did not shrink")
    assert run("--config", job.path, "defrag", "-q") == 3
    out, err = capsys.readouterr()
    lines = out.splitlines()[1:]
    assert "  101.0 MiB after 4.2s  " in lines[0]
    assert lines[1].split()[7:] == ["failed", "it", "did", "not", "shrink"]
    assert rows(out)[2][7] == "skip"
    assert err.splitlines() == [
        "error: etcd-1: it did not shrink; defragmented: etcd-2",
        "hint: see to that first; a later run does the others",
    ]
    assert job.calls[-1] == "run"


def test_a_member_whose_turn_did_not_come(job: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    results = (MemberResult(facts(2), "done", None, 400 * MIB, 101 * MIB, 4.2),)
    job.report = report("interrupted", results=results, reason="interrupted by a signal")
    assert run("--config", job.path, "defrag", "-q") == 130
    out, err = capsys.readouterr()
    assert rows(out)[1][7:9] == ["not", "done"]
    assert err.splitlines()[0] == "error: interrupted; defragmented: etcd-2"


@pytest.mark.parametrize("reason", ["etcd-2: it did not shrink", None])
def test_nothing_was_achieved(job: Ended, reason: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    job.report = report("failed", reason=reason)
    assert run("--config", job.path, "defrag", "-q") == 5
    assert capsys.readouterr().err.splitlines()[0] == f"error: {reason or 'no reason'}"


@pytest.mark.parametrize(
    ("outcome", "changes", "expected"),
    [
        ("planned", {}, "NOSPACE: old history would be compacted first, and the alarm disarmed in the end"),
        ("partial", {"reason": "r"}, "NOSPACE: the alarm is still raised"),
        (
            "done",
            {"disarmed": True, "compacted": 4000},
            "NOSPACE: history before revision 4000 compacted, the alarm is disarmed",
        ),
    ],
)
def test_a_cluster_without_space(
    job: Ended,
    outcome: Outcome,
    changes: dict[str, Any],
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    job.report = report(outcome, alarms=(NOSPACE,), **changes)
    assert run("--config", job.path, "defrag", "-q") == (3 if outcome == "partial" else 0)
    assert notes(capsys.readouterr().out)[0] == expected


def test_nothing_to_do(job: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    silent = replace(facts(2), status=None, failure="connection refused")
    unknown = facts(3, db_size_in_use=None)
    members = [facts(1, db_size_in_use=400 * MIB), silent, unknown]
    job.report = DefragReport("nothing", make_plan(survey(members), POLICY, History({}), NOW))
    assert run("--config", job.path, "defrag", "-q") == 0
    out, _ = capsys.readouterr()
    assert notes(out) == ["nothing to do"], "what speaks against it does not matter then"
    assert [row[:5] for row in rows(out)] == [
        ["-", "etcd-1", "leader", "400.0", "MiB"],
        ["-", "etcd-2", "follower", "-", "-"],
        ["-", "etcd-3", "follower", "400.0", "MiB"],
    ]
    assert rows(out)[2][5] == "-"


def test_earlier_failures_are_ignored_when_that_is_said(job: Ended) -> None:
    assert run("--config", job.path, "defrag", "--ignore-failures", "-q") == 0
    assert job.policies == [replace(POLICY, max_failures=sys.maxsize)]


def test_the_document(job: Ended, capsys: pytest.CaptureFixture[str]) -> None:
    results = (MemberResult(facts(2), "done", None, 400 * MIB, 101 * MIB, 4.21049),)
    job.report = report("done", backup=BACKUP, results=results, seconds=9.87654)
    assert run("--config", job.path, "defrag", "-o", "json", "-q") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["backup"] == {"id": BACKUP.id, "created_at": "2026-11-21T12:00:00Z", "level": "data"}
    assert (document["outcome"], document["cluster_id"], document["seconds"]) == ("done", "c1", 9.877)
    assert document["members"][0] == {
        "id": "a2",
        "name": "etcd-2",
        "role": "follower",
        "action": "defragment",
        "why": "75% of 400.0 MiB is free",
        "order": 1,
        "db_bytes": 400 * MIB,
        "in_use_bytes": 100 * MIB,
        "quota_bytes": 2 * GIB,
        "estimate_seconds": 4.194,
        "outcome": "done",
        "problem": None,
        "after_bytes": 101 * MIB,
        "seconds": 4.21,
    }
    assert [one["order"] for one in document["members"]] == [1, 2, None]
    assert [one["outcome"] for one in document["members"]] == ["done", None, None]


def test_the_alarm_is_told_before_what_speaks_against_it(
    job: Ended, capsys: pytest.CaptureFixture[str]
) -> None:
    job.report = report("planned", alarms=(NOSPACE, Alarm("a2", "CORRUPT")))
    assert run("--config", job.path, "defrag", "--dry-run", "-q") == 5
    assert [note.split(":")[0] for note in notes(capsys.readouterr().out)] == ["NOSPACE", "not now", "backup"]
