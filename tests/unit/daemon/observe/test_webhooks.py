"""What is sent, when, and how often; and that the URL is nobody else's business."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from etcdguard.daemon.observe.problems import Problem, Severity
from etcdguard.daemon.observe.webhooks import Messenger, Webhook
from tests.support.http_server import running
from tests.unit.daemon.observe.states import HOUR, NOW

HOOK = Webhook(SecretStr("https://hooks.example.com/s3cret"))


def problem(key: str = "job:backup", severity: Severity = "warning") -> Problem:
    return Problem(key, severity, f"{key} is wrong", "mend it")


class Wire:
    """Takes messages, after as many failures as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.messages: list[dict[str, Any]] = []
        self.attempts = 0
        self._failures = failures

    def __call__(self, webhook: Webhook, body: bytes) -> None:
        self.attempts += 1
        if self.attempts <= self._failures:
            raise OSError(f"cannot reach {webhook.url.get_secret_value()}")
        self.messages.append(json.loads(body))

    @property
    def told(self) -> list[tuple[str, str, str]]:
        return [(one["key"], one["status"], one["severity"]) for one in self.messages]


def messenger(wire: Wire, *webhooks: Webhook) -> Messenger:
    return Messenger(webhooks or (HOOK,), "prod", "cp1", wire=wire, pause=0.001)


def test_a_problem_is_told_once_until_it_is_over() -> None:
    wire = Wire()
    told = messenger(wire)
    for minute in range(300):
        told.tell({"job:backup": problem()}, NOW + timedelta(minutes=minute))
    told.tell({}, NOW + 5 * HOUR)
    told.tell({}, NOW + 6 * HOUR)
    told.close()
    assert wire.told == [("job:backup", "firing", "warning"), ("job:backup", "resolved", "warning")]
    assert wire.messages[0] == {
        "schema_version": 1,
        "status": "firing",
        "severity": "warning",
        "key": "job:backup",
        "summary": "job:backup is wrong",
        "hint": "mend it",
        "cluster": "prod",
        "node": "cp1",
        "at": NOW.isoformat(),
    }


def test_it_is_told_again_when_it_becomes_critical_and_after_six_hours() -> None:
    wire = Wire()
    told = messenger(wire)
    told.tell({"a": problem("a")}, NOW)
    told.tell({"a": problem("a", "critical")}, NOW + HOUR)
    told.tell({"a": problem("a")}, NOW + 2 * HOUR)  # better, but not over
    told.tell({"a": problem("a", "critical")}, NOW + 6.5 * HOUR)
    told.tell({"a": problem("a", "critical")}, NOW + 7.1 * HOUR)
    told.close()
    assert [severity for _, _, severity in wire.told] == ["warning", "critical", "critical"]


def test_every_webhook_is_told_in_its_own_form() -> None:
    wire = Wire()
    told = messenger(wire, HOOK, Webhook(SecretStr("https://slack.example.com/x"), "slack"))
    told.tell({"a": problem("a")}, NOW)
    told.close()
    assert [set(message) for message in wire.messages] == [
        {"schema_version", "status", "severity", "key", "summary", "hint", "cluster", "node", "at"},
        {"text"},
    ]
    assert "a is wrong" in wire.messages[1]["text"]


def _idle(told: Messenger, done: int) -> None:
    """Until so many messages were sent or given up."""
    for _ in range(2000):
        if told.sent + told.failed >= done:
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to an end")


def test_it_insists_and_then_gives_up_without_telling_the_url() -> None:
    with capture_logs() as logs:
        patient = Wire(failures=3)
        told = messenger(patient)
        told.tell({"a": problem("a")}, NOW)
        _idle(told, 1)
        told.close()
        assert (told.sent, told.failed, len(patient.messages)) == (1, 0, 1)

        hopeless = Wire(failures=99)
        told = messenger(hopeless)
        told.tell({"a": problem("a")}, NOW)
        _idle(told, 1)
        told.close()
        assert (told.sent, told.failed, hopeless.attempts) == (0, 1, 4)
    assert {log["host"] for log in logs} == {"hooks.example.com"}
    assert "s3cret" not in str(logs) + repr(HOOK)


def test_nobody_waits_for_a_webhook_that_hangs() -> None:
    hangs = threading.Event()

    def hang(webhook: Webhook, body: bytes) -> None:
        hangs.wait(60)

    told = Messenger((HOOK,), "prod", "cp1", wire=hang)
    for number in range(150):
        told.tell({f"a{number}": problem(f"a{number}")}, NOW)
    assert told.failed > 0  # what no longer fits is counted
    hangs.set()
    told.close()


class _Receiver(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[str, str | None, Any]]] = []
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[str]:
    """Its URL."""
    _Receiver.got.clear()
    with running(HTTPServer(("127.0.0.1", 0), _Receiver)) as url:
        yield url


def test_over_http(receiver: str) -> None:
    webhook = Webhook(SecretStr(f"{receiver}/token"))
    told = Messenger((webhook,), "prod", "cp1")
    told.tell({"a": problem("a")}, NOW)
    told.close()
    ((path, content_type, message),) = _Receiver.got
    assert (path, content_type, message["key"]) == ("/token", "application/json", "a")


def test_an_answer_that_is_an_error_is_one(receiver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Receiver, "status", 503)
    webhook = Webhook(SecretStr(f"{receiver}/token"))
    with capture_logs() as logs:
        told = Messenger((webhook,), "prod", "cp1", pause=0.001)
        told.tell({"a": problem("a")}, NOW)
        _idle(told, 1)
        told.close()
    assert (told.failed, len(_Receiver.got)) == (1, 4)
    assert logs[-1]["reason"] == "HTTP 503"
