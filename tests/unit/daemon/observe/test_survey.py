"""When repositories are asked, and what is made of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from etcdguard.daemon.observe.survey import Survey
from etcdguard.daemon.runner import Result
from tests.support.simulation import SimulatedClock, SimulatedRunner
from tests.unit.daemon.observe.states import HOUR, MINUTE, NOW, job, listing, run, state

SECOND = MINUTE / 60


class World:
    def __init__(self, *names: str) -> None:
        self.clock = SimulatedClock(NOW)
        self.answer: Any = Result(0, listing(3 * HOUR, HOUR))
        self.runner = SimulatedRunner(self.clock, answer=self._answer)
        self.survey = Survey(names or ("main",), self.runner, self.clock)
        self.state = state(job(last=run()))

    def _answer(self, argv: Sequence[str]) -> Result:
        found: Result = self.answer
        return found

    def live(self, minutes: float) -> None:
        for _ in range(int(minutes * 60)):
            self.survey.tick(self.state)
            self.clock.advance(SECOND)

    @property
    def asked(self) -> list[str]:
        return [" ".join(one.argv) for one in self.runner.started]


def test_each_repository_is_asked_at_the_start_and_every_ten_minutes() -> None:
    world = World("main", "offsite")
    world.live(1)
    assert world.asked == ["list --repository main", "list --repository offsite"]
    assert [one.count for one in world.survey.facts] == [2, 2]
    world.live(8)
    assert len(world.asked) == 2
    world.live(2)
    assert len(world.asked) == 4


def test_a_job_that_may_have_changed_it_asks_at_once() -> None:
    world = World()
    world.live(1)
    world.state = state(job(last=run()), job("check", run()))
    world.live(1)
    assert len(world.asked) == 1  # a check changes nothing
    world.state = state(job(last=run()), job("prune", run()))
    world.live(1)
    assert len(world.asked) == 2


@pytest.mark.parametrize(
    "answer",
    [
        Result(10, error="no such bucket"),
        Result(0, {"backups": [{"id": 1}]}),
        Result(0, {}),
        Result(0, None),
        Result(-9),
    ],
)
def test_what_is_known_stays_when_a_repository_does_not_answer(answer: Result) -> None:
    world = World()
    world.live(1)
    world.answer = answer
    world.live(10)
    (facts,) = world.survey.facts
    assert facts.error
    assert (facts.count, facts.newest and facts.newest.id) == (2, "backup-1")
    world.answer = Result(0, listing(HOUR))
    world.live(10)
    assert (world.survey.facts[0].error, world.survey.facts[0].count) == (None, 1)


def test_an_answer_that_does_not_come_is_given_up() -> None:
    world = World()
    world.runner.seconds = 1e9
    world.live(4)
    assert world.survey.facts[0].error is None
    world.live(2)
    assert world.survey.facts[0].error == "the command ended with -9"


def test_when_the_daemon_stops_nothing_is_asked_any_more() -> None:
    world = World()
    world.state = state(job(), stopping=True)
    world.live(1)
    assert world.asked == []


def test_stopping_ends_what_runs() -> None:
    world = World()
    world.runner.seconds = 1e9
    world.live(1)
    world.survey.stop()
    assert world.runner.started[0].told == ["die"]
