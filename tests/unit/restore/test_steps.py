"""Requests and answers: nothing is lost on the way, nothing strange is believed, and no secret is shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from etcdguard.errors import EtcdGuardError, Locked, Refused
from etcdguard.restore.steps import (
    StepAnswer,
    StepError,
    StepProgress,
    StepRequest,
    answer_bytes,
    failure,
    progress_bytes,
    read_answer,
    read_progress,
    read_request,
    request_bytes,
)


def _request() -> StepRequest:
    return StepRequest(
        version="1.0",
        step="stage",
        plan={"plan": {}},
        members=("m1", "m2"),
        unsigned=True,
        repository="offsite",
        identities=(SecretStr("AGE-SECRET-KEY-1X"),),
    )


def test_a_request_arrives_as_it_was_sent_on_one_line() -> None:
    data = request_bytes(_request())
    assert data.count(b"\n") == 1
    assert read_request(data) == _request()


def test_identities_are_shown_nowhere_but_on_the_wire() -> None:
    request = _request()
    assert "AGE-SECRET" not in f"{request!r}{request}{request.model_dump_json()}"
    assert b"AGE-SECRET" in request_bytes(request)


def test_an_answer_arrives_as_it_was_sent() -> None:
    answer = failure("1.0", Locked("busy", hint="wait"))
    assert read_answer(answer_bytes(answer)) == answer
    assert answer.error is not None
    error = answer.error.error("cp1")
    assert (type(error), error.message, error.hint) == (Locked, "cp1: busy", "wait")


def test_an_exit_code_of_the_future_is_an_error_all_the_same() -> None:
    assert type(StepError(exit_code=77, message="x", hint="y").error("cp1")) is EtcdGuardError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol": 2}, "protocol 2, not 1"),
        ({"step": "destroy"}, "no step known here"),
        ({"members": "m1"}, "malformed: members"),
        ({"identities": [1]}, r"malformed: identities\.0"),
    ],
)
def test_a_strange_request_is_refused(change: dict[str, object], message: str) -> None:
    data = json.dumps({**json.loads(request_bytes(_request())), **change}).encode()
    with pytest.raises(Refused, match=message) as refusal:
        read_request(data)
    assert "AGE-SECRET" not in str(refusal.value)
    assert refusal.value.__cause__ is None or "AGE-SECRET" not in str(refusal.value.__cause__)


@given(st.binary(max_size=200))
def test_no_bytes_are_taken_for_an_answer_by_accident(data: bytes) -> None:
    with pytest.raises(Refused):
        read_answer(data)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)))
def test_no_json_is_taken_for_a_request_by_accident(body: object) -> None:
    with pytest.raises(Refused):
        read_request(json.dumps(body).encode())


def test_progress_is_told_apart_from_answers() -> None:
    at = StepProgress(progress="fetch", bytes=5, total_bytes=10)
    assert read_progress(progress_bytes(at)) == at
    assert progress_bytes(at).count(b"\n") == 1
    assert read_progress(answer_bytes(StepAnswer(version="1", ok=True, facts={"progress": 1}))) is None
    with pytest.raises(Refused):
        read_answer(progress_bytes(at))


@pytest.mark.parametrize("change", [{"protocol": 2}, {"bytes": "5"}, {"progress": 7}])
def test_strange_progress_is_refused(change: dict[str, object]) -> None:
    line = {**json.loads(progress_bytes(StepProgress(progress="fetch", bytes=5))), **change}
    with pytest.raises(Refused):
        read_progress(json.dumps(line).encode())


def test_who_did_not_ask_for_progress_is_spared_it() -> None:
    body = json.loads(request_bytes(_request()))
    del body["progress"]  # by an etcdguard that does not know it
    assert not read_request(json.dumps(body).encode()).progress


def test_facts_and_findings_travel() -> None:
    found = StepError(exit_code=15, message="x", hint="y", check="space")
    answer = StepAnswer(version="1", ok=True, facts={"phase": "staged"}, findings=(found,))
    assert read_answer(answer_bytes(answer)) == answer
