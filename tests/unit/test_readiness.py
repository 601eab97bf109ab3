"""What is found of a restore that nobody makes, line by line."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from etcdguard.catalog import Backup, Listing, Problem
from etcdguard.catalog.standing import Standing, Verified
from etcdguard.errors import (
    Corruption,
    EtcdGuardError,
    EtcdUnreachable,
    ObjectNotFound,
    Refused,
    RepositoryError,
    Stale,
    StoreUnavailable,
    UsageError,
    WrongKey,
)
from etcdguard.etcd.tools import Tool
from etcdguard.maintenance.checks.thresholds import LIMITS, Thresholds
from etcdguard.maintenance.results import CheckResult, Outcome, failure
from etcdguard.readiness import Key, Prospect, judge_readiness, newest
from etcdguard.restore.planner import Choices, MemberSpec, make_plan
from etcdguard.restore.steps import StepAnswer, StepError
from tests.support.restores import NOW, make_manifest

OK, SKIP, WARN, FAIL = Outcome.OK, Outcome.SKIP, Outcome.WARN, Outcome.FAIL
TOOL = Tool(Path("/usr/bin/etcdutl"), (3, 5, 26), "etcdutl")
HOUR = timedelta(hours=1)
BACKUP = Backup(make_manifest(), b"", "valid", "sha256:abc", standing=Standing(Verified("data", NOW)))
GONE = StoreUnavailable("the store is away", hint="wait")


def plan_of(*hosts: str | None) -> object:
    specs = [
        MemberSpec(f"m{n}", (f"http://10.0.0.{n}:2380",), host=host) for n, host in enumerate(hosts, start=1)
    ]
    return make_plan(
        make_manifest(), specs, Choices(), TOOL, node="here", now=NOW, token_hex=lambda n: "0" * (2 * n)
    )


def answered(*findings: StepError) -> StepAnswer:
    return StepAnswer(version="1", ok=True, findings=findings)


def prospect(**changes: object) -> Prospect:
    made = Prospect(
        repositories={"main": Listing((BACKUP,), ())},
        key=Key(),
        tool=TOOL,
        plan=plan_of("h1", "h2", "h3"),  # type: ignore[arg-type]
        hosts={name: answered() for name in ("h1", "h2", "h3")},
        now=NOW + HOUR,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def lines(found: Prospect, thresholds: Thresholds | None = None) -> dict[str, CheckResult]:
    return {
        one.name.removeprefix("readiness."): one for one in judge_readiness(found, thresholds or Thresholds())
    }


def with_backup(**changes: object) -> Prospect:
    backup = replace(BACKUP, **changes)  # type: ignore[arg-type]
    return prospect(repositories={"main": Listing((backup,), ())})


def test_all_is_ready() -> None:
    found = lines(prospect())

    assert {one.outcome for one in found.values()} == {OK}
    assert list(found) == [
        "repository.main", "backup", "verified", "signature", "key", "tool", "plan", "host.h1", "host.h2",
        "host.h3",
    ]  # fmt: skip
    assert found["backup"].value == f"{BACKUP.id}, 1h old"


def test_one_repository_of_two_is_enough() -> None:
    both: dict[str, Listing | EtcdGuardError] = {"first": GONE, "second": Listing((BACKUP,), ())}
    assert newest(both) is BACKUP
    found = lines(prospect(repositories=both))
    assert found["repository.first"].outcome is WARN
    assert found["backup"].outcome is OK

    found = lines(prospect(repositories={"first": GONE, "second": GONE}))
    assert found["repository.first"].outcome is FAIL
    assert list(found) == ["repository.first", "repository.second", "backup"]
    assert isinstance(failure(found.values()), StoreUnavailable)


def test_no_backup_at_all() -> None:
    error = failure(judge_readiness(prospect(repositories={"main": Listing((), ())}), Thresholds()))

    assert isinstance(error, ObjectNotFound)
    assert error.exit_code == RepositoryError.exit_code


def test_a_damaged_manifest_is_told() -> None:
    damaged = Listing((BACKUP,), (Problem("20260101T000000Z-broken", Corruption("bad", hint="x")),))
    found = lines(prospect(repositories={"main": damaged}))["repository.main"]
    assert found.outcome is WARN
    assert "20260101T000000Z-broken" in found.value


def test_the_newest_backup_grows_old() -> None:
    assert lines(prospect(now=NOW + 24 * HOUR))["backup"].outcome is OK
    assert lines(prospect(now=NOW + 25 * HOUR))["backup"].outcome is WARN
    strict = Thresholds({"backup_age": LIMITS["backup_age"].but({"warn": 1.0, "fail": 60.0})})
    old = lines(prospect(), strict)["backup"]
    assert (old.outcome, old.error) == (FAIL, Stale)
    assert lines(prospect(now=NOW - HOUR))["backup"].outcome is OK  # our clock is behind


@pytest.mark.parametrize(
    ("verified", "hours", "outcome"),
    [
        (None, 1, WARN),
        (Verified("manifest", NOW), 1, WARN),
        (Verified("data", NOW), 48, OK),
        (Verified("drill", NOW), 49, WARN),
    ],
)
def test_only_verified_data_counts(verified: Verified | None, hours: int, outcome: Outcome) -> None:
    found = replace(with_backup(standing=Standing(verified)), now=NOW + hours * HOUR)

    assert lines(found)["verified"].outcome is outcome


def test_signatures() -> None:
    missing = lines(with_backup(signature="missing", signer=None))["signature"]
    assert (missing.outcome, missing.error) == (FAIL, Refused)
    invalid = lines(with_backup(signature="invalid", signer=None))["signature"]
    assert (invalid.outcome, invalid.error) == (FAIL, Corruption)


def test_keys() -> None:
    assert lines(prospect(key=Key(needed=False)))["key"].outcome is OK
    offline = lines(prospect(key=Key(offline=True)))["key"]
    assert offline.outcome is WARN
    assert "--identity" in (offline.hint or "")
    wrong = lines(prospect(key=Key(problem=WrongKey("it does not fit", hint="another"))))["key"]
    assert (wrong.outcome, wrong.error) == (FAIL, WrongKey)
    none = lines(prospect(key=None))["key"]
    assert (none.outcome, none.value) == (Outcome.SKIP, "there is no backup to open")


def test_without_a_tool_there_is_no_plan() -> None:
    found = lines(prospect(tool=UsageError("no etcdutl", hint="install it"), plan=None, hosts={}))
    assert (found["tool"].outcome, found["tool"].error) == (FAIL, UsageError)
    assert found["plan"].outcome is SKIP
    refused = lines(prospect(plan=Refused("3.4 is not 3.5", hint="another"), hosts={}))
    assert (refused["plan"].outcome, refused["plan"].error) == (FAIL, Refused)
    assert "hosts" not in refused


def test_hosts() -> None:
    def finding(error: EtcdGuardError, check: str) -> StepError:
        return StepError.of(error, check)

    key = finding(WrongKey("no identity", hint="x"), "key")
    space = finding(Refused("no space", hint="free some"), "space")
    runs = finding(Refused("etcd runs", hint="stop it"), "stopped")
    away = EtcdUnreachable("no route", hint="look")
    hosts = {"h1": away, "h2": answered(runs, space, key), "h3": answered(runs)}

    found = lines(prospect(hosts=hosts))
    assert (found["host.h1"].outcome, found["host.h1"].error) == (FAIL, EtcdUnreachable)
    assert found["host.h2"].outcome is FAIL
    assert found["host.h2"].value == "no space; no identity"
    assert found["host.h2"].hint == "free some; x"
    assert found["host.h3"].outcome is OK  # it is to run until somebody restores
    assert "stop etcd" in (found["host.h3"].hint or "")

    offline = lines(prospect(hosts={"h1": answered(key)}, key=Key(offline=True)))
    assert offline["host.h1"].outcome is OK


def test_members_at_an_unknown_place() -> None:
    found = lines(prospect(plan=plan_of("h1", None, "h3")))
    assert found["hosts"].outcome is SKIP
    assert "m2" in found["hosts"].value
