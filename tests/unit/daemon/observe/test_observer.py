"""The pages over real HTTP, and who is told."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from etcdguard.daemon.observe.observer import Observer
from etcdguard.daemon.observe.survey import Survey
from etcdguard.daemon.observe.webhooks import Messenger, Webhook
from etcdguard.daemon.state import DaemonState
from tests.support.simulation import SimulatedClock, SimulatedRunner
from tests.unit.daemon.observe.states import MINUTE, NOW, job, run, state


class World:
    def __init__(self) -> None:
        self.clock = SimulatedClock(NOW)
        self.state: DaemonState = state(job(last=run()))
        self.sent: list[bytes] = []
        survey = Survey([], SimulatedRunner(self.clock), self.clock)
        hook = Webhook(SecretStr("https://hooks.example.com/x"))
        messenger = Messenger([hook], "prod", "cp1", wire=lambda _, body: self.sent.append(body))
        self.observer = Observer(lambda: self.state, survey, messenger, self.clock, None)
        self.observer.listen("127.0.0.1", 0)

    def get(self, path: str, method: str = "GET") -> tuple[int, Any, str]:
        assert self.observer.port is not None
        url = f"http://127.0.0.1:{self.observer.port}{path}"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode()


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.observer.close()


def test_the_pages(world: World) -> None:
    status, headers, body = world.get("/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "etcdguard: prod" in body
    status, headers, body = world.get("/metrics?name=x")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert "etcdguard_leader 1.0" in body
    assert world.get("/", "HEAD")[::2] == (200, "")
    assert world.get("/etc/passwd")[0] == 404
    assert world.get("/", "POST")[0] == 501


def test_health_follows_the_loop(world: World) -> None:
    assert world.get("/healthz")[::2] == (200, "ok\n")
    world.clock.advance(MINUTE)
    status, _, body = world.get("/healthz")
    assert (status, body) == (503, "the loop has not come round for 60 s\n")


def test_readiness_says_why_not(world: World) -> None:
    assert world.get("/readyz")[::2] == (200, "ok\n")
    failing = job(last=run("failed"), failures=3, circuit_open=True)
    world.state = state(failing, role="no_lock", lock_problem="etcd is down", stopping=True)
    status, _, body = world.get("/readyz")
    assert status == 503
    assert body.splitlines() == [
        "it is stopping",
        "no lock can be had: etcd is down",
        "job backup fails again and again",
    ]


def test_the_one_that_acts_speaks_for_all(world: World) -> None:
    world.state = state(job(last=run("failed"), failures=1), role="standby")
    world.observer.tick()
    world.state = replace(world.state, role="leader")
    world.observer.tick()
    world.observer.tick()
    world.observer.close()
    assert len(world.sent) == 1


def test_a_page_that_fails_does_not_end_the_server(world: World) -> None:
    good, world.state = world.state, None  # type: ignore[assignment]
    with capture_logs() as logs:
        assert world.get("/")[::2] == (500, "internal error\n")
    assert [log["event"] for log in logs] == ["status.failed"]
    world.state = good
    assert world.get("/")[0] == 200


def test_an_address_that_is_taken_does_not_stop_the_daemon(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, capture_logs() as logs:
        other = World()
        other.observer.close()
        other.observer.listen("127.0.0.1", taken.getsockname()[1])
    problems = [log for log in logs if log["event"] == "status.not_listening"]
    assert len(problems) == 1
    assert "Address already in use" in problems[0]["error"]
