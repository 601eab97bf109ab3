"""What a daemon starts, when, and what it makes of how that ends."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from etcdguard.daemon.engine import Daemon
from etcdguard.daemon.jobs import Job
from etcdguard.daemon.runner import Result
from etcdguard.errors import ConfigError
from etcdguard.slots import parse_schedule, slot_id
from tests.support.simulation import SimulatedClock, SimulatedElection, SimulatedRunner

START = datetime(2026, 3, 1, 10, 37, tzinfo=timezone.utc)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def job(name: str = "check", *texts: str, **facts: Any) -> Job:
    return Job(name, (name,), parse_schedule(texts or ["1h"]), **facts)


class World:
    """One daemon and its surroundings."""

    def __init__(self, *jobs: Job, start: datetime = START, role: Any = "leader", **facts: Any) -> None:
        self.clock = SimulatedClock(start)
        self.election = SimulatedElection(role)
        self.runner = SimulatedRunner(self.clock)
        self.daemon = Daemon(
            jobs, self.runner, self.election, self.clock, node="n", cluster="prod", version="1", **facts
        )

    def live(self, span: timedelta, step: timedelta = SECOND) -> None:
        end = self.clock.elapsed + span.total_seconds()
        while self.clock.elapsed < end:
            self.daemon.tick()
            self.clock.advance(step)
        self.daemon.tick()

    @property
    def started(self) -> list[str]:
        return [one.argv[0] for one in self.runner.started]

    def slot(self, name: str = "check") -> str | None:
        run = self.daemon.state.job(name).last_run
        return None if run is None else run.slot


def test_the_slot_that_passed_is_made_up_for_and_then_each_once() -> None:
    world = World(job())
    world.live(5 * SECOND)
    assert (world.started, world.slot()) == (["check"], "20260301T100000Z")
    world.live(22 * MINUTE)
    assert len(world.started) == 1
    world.live(2 * HOUR)
    assert (len(world.started), world.slot()) == (3, "20260301T120000Z")


def test_without_catch_up_it_waits_for_the_next_slot() -> None:
    world = World(job(catch_up=False))
    world.live(22 * MINUTE)
    assert world.started == []
    world.live(2 * MINUTE)
    assert world.slot() == "20260301T110000Z"


def test_jitter_delays_the_run_and_not_the_slot() -> None:
    spec = job("check", "1h jitter 30m", catch_up=False)
    world = World(spec, start=START + 20 * MINUTE)
    slot = datetime(2026, 3, 1, 11, tzinfo=timezone.utc)
    delay = spec.schedule.delay(slot, "prod check")
    assert MINUTE < delay < 29 * MINUTE
    world.live(slot + delay - world.clock.wall - SECOND)
    assert world.started == []
    world.live(10 * SECOND)
    assert world.slot() == slot_id(slot)


def test_a_delayed_run_outlives_a_reload_and_a_late_one_is_for_the_slot_before() -> None:
    spec = job("check", "1h jitter 50m", catch_up=False)
    eleven = datetime(2026, 3, 1, 11, tzinfo=timezone.utc)
    delay = [spec.schedule.delay(eleven + n * HOUR, "prod check") for n in range(2)]
    assert min(delay) > 2 * MINUTE
    world = World(spec, start=eleven - MINUTE)
    world.live(2 * MINUTE)
    world.daemon.reload([spec], world.runner)
    world.clock.set_wall(HOUR)  # 11:00's run is overdue and 12:00's is not there yet
    world.live(5 * SECOND)
    assert world.slot() == "20260301T110000Z"
    world.live(delay[1])
    assert world.slot() == "20260301T120000Z"
    assert len(world.started) == 2


def test_two_jobs_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two jobs are named 'check'"):
        World(job(), job())


def test_a_job_that_this_version_does_not_have_never_runs() -> None:
    world = World(job(unavailable="no such command"))
    world.live(2 * HOUR, MINUTE)
    assert world.started == []
    assert world.daemon.state.job("check").unavailable == "no such command"


def test_a_standby_does_only_what_is_its_own() -> None:
    world = World(job(), job("backup", fenced=True), job("ship", "1m", scope="node"), role="standby")
    world.live(10 * MINUTE)
    assert set(world.started) == {"ship"}


def test_without_a_lock_only_what_is_fenced_runs() -> None:
    world = World(job(), job("backup", fenced=True), role="no_lock")
    world.live(2 * HOUR, MINUTE)
    assert set(world.started) == {"backup"}
    assert world.daemon.state.lock_problem == "etcd is down"


def test_a_new_leader_does_what_nobody_did_and_no_more() -> None:
    world = World(job(), job("defrag", "daily at 10:30", catch_up=False), role="standby")
    world.live(30 * MINUTE)
    world.election.marks |= {"check": "20260301T110000Z"}
    world.election.now = "leader"
    world.live(5 * MINUTE)
    assert world.started == []
    assert world.daemon.state.job("check").pending_slot is None
    world.live(HOUR)
    assert world.started == ["check"]
    assert world.election.marks["check"] == "20260301T120000Z"


def test_a_leader_that_lost_the_lock_starts_nothing_more() -> None:
    world = World(job())
    world.live(MINUTE)
    world.election.now = "standby"
    world.live(3 * HOUR, MINUTE)
    assert len(world.started) == 1


def test_failures_are_tried_again_with_pauses_and_open_the_circuit() -> None:
    world = World(job())
    world.runner.answer = lambda argv: Result(5, None, "no member is fit", "repair it")
    starts = []
    for _ in range(20 * 60):
        before = len(world.started)
        world.daemon.tick()
        if len(world.started) > before:
            starts.append(world.clock.elapsed)
        world.clock.advance(SECOND)
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert [round(pause) for pause in pauses] == [32, 62, 122, 242, 482]
    state = world.daemon.state.job("check")
    assert state.circuit_open
    assert state.failures == len(starts)
    assert state.retry_at is not None
    assert state.last_run is not None
    assert (state.last_run.outcome, state.last_run.error) == ("failed", "no member is fit")
    assert state.last_success is None
    world.runner.answer = lambda argv: Result(0)
    world.live(20 * MINUTE)
    state = world.daemon.state.job("check")
    assert (state.failures, state.circuit_open, state.pending_slot) == (0, False, None)


def test_a_partial_result_is_not_repeated_in_its_slot() -> None:
    world = World(job())
    world.runner.answer = lambda argv: Result(3, {"outcome": "created"}, "one repository failed", "wait")
    world.live(20 * MINUTE)
    assert len(world.started) == 1
    assert world.daemon.state.job("check").failures == 1


def test_what_could_not_begin_waits_and_what_is_satisfied_does_not() -> None:
    world = World(job())
    document = {"outcome": "skipped", "satisfied": False, "reason": "the lock is held"}
    world.runner.answer = lambda argv: Result(0, document)
    world.live(3 * MINUTE)
    assert len(world.started) > 2
    assert world.daemon.state.job("check").failures == 0
    world.runner.answer = lambda argv: Result(0, document | {"satisfied": True})
    world.live(MINUTE)
    count = len(world.started)
    world.live(10 * MINUTE)
    assert len(world.started) == count


def test_a_hanging_job_is_ended_and_hurts_no_other() -> None:
    world = World(job(timeout=10 * MINUTE), job("ship", "1m", scope="node"))
    world.runner.seconds, world.runner.deaf = 10**9, True
    world.daemon.tick()
    hanging, world.runner.seconds = world.runner.started[0], 2.0
    world.runner.started[1].ends = 0.0
    world.live(9 * MINUTE)
    assert world.started.count("ship") >= 9
    assert hanging.told == []
    world.live(MINUTE + 5 * SECOND)
    assert hanging.told == ["end"]
    world.live(25 * SECOND)
    assert hanging.told == ["end", "die"]
    run = world.daemon.state.job("check").last_run
    assert run is not None
    assert run.outcome == "timeout"


def test_a_command_that_cannot_be_started_is_a_failure_like_any_other() -> None:
    world = World(job())

    def refuse(argv: object) -> Any:
        raise OSError(12, "Cannot allocate memory")

    world.runner.start = refuse  # type: ignore[method-assign]
    world.live(MINUTE)
    run = world.daemon.state.job("check").last_run
    assert run is not None
    assert "could not be started" in str(run.error)


def test_a_job_is_never_started_beside_itself() -> None:
    world = World(job("check", "1m"))
    world.runner.seconds = 150
    world.live(10 * MINUTE)
    running = [one for one in world.runner.started if one.poll() is None]
    assert len(running) == 1
    assert len(world.started) == 5  # of ten slots: the newest each time it is free


def test_stopping_asks_what_runs_to_end_and_starts_nothing() -> None:
    world = World(job(), job("ship", "1m", scope="node"))
    world.runner.seconds = 10**9
    world.daemon.tick()
    world.daemon.stop()
    stopped = [world.daemon.stopped]
    world.live(5 * MINUTE)
    assert [*stopped, world.daemon.stopped] == [False, True]
    assert len(world.started) == 2
    assert [run.outcome for one in world.daemon.state.jobs if (run := one.last_run)] == ["aborted", "aborted"]


def test_killing_ends_what_does_not_listen() -> None:
    world = World(job())
    world.runner.seconds, world.runner.deaf = 10**9, True
    world.daemon.tick()
    world.daemon.stop()
    world.live(5 * SECOND)
    stopped = [world.daemon.stopped]
    world.daemon.kill()
    world.daemon.tick()
    assert [*stopped, world.daemon.stopped] == [False, True]


def test_a_job_without_anything_to_do_is_not_started() -> None:
    full = False
    world = World(job("ship", "1m", scope="node", catch_up=False), wanted={"ship": lambda: full})
    world.live(5 * MINUTE)
    assert world.started == []
    full = True
    world.live(2 * MINUTE)
    assert set(world.started) == {"ship"}


def test_a_mark_from_a_clock_that_was_ahead_settles_nothing() -> None:
    world = World(job(), role="standby")
    world.election.marks["check"] = "20270301T100000Z"
    world.live(5 * SECOND)
    world.election.now = "leader"
    world.live(5 * SECOND)
    assert world.slot() == "20260301T100000Z"


def test_a_reload_goes_on_with_what_runs_and_what_is_done() -> None:
    old = job()
    world = World(old, job("gone", "1h"))
    world.live(5 * SECOND)
    world.runner.seconds = 10**9
    world.live(23 * MINUTE)  # both run for 11:00
    running = world.runner.started[-2:]
    world.daemon.reload([replace(old, timeout=5 * HOUR), job("new", "1d", catch_up=False)], world.runner)
    world.live(5 * SECOND)
    assert [one.told for one in running] == [[], ["end"]]
    assert len(world.started) == 4
    running[0].ends = 0.0
    world.live(10 * MINUTE)
    assert len(world.started) == 4
    assert {one.name for one in world.daemon.state.jobs} >= {"check", "new"}


def test_a_schedule_that_a_reload_changed_counts_from_now() -> None:
    world = World(job())
    world.live(5 * SECOND)
    world.daemon.reload([job("check", "10m")], world.runner)
    world.live(4 * MINUTE)
    assert world.slot() == "20260301T104000Z"


def test_a_reload_that_cannot_be_used_is_said() -> None:
    world = World(job())
    world.daemon.keep("config.yaml:3: unknown key")
    world.daemon.tick()
    assert world.daemon.state.config_problem == "config.yaml:3: unknown key"
    world.daemon.reload([job()], world.runner)
    world.daemon.tick()
    assert world.daemon.state.config_problem is None


def test_a_clock_that_is_corrected_by_years_does_not_stop_the_jobs() -> None:
    world = World(job(), start=START.replace(year=2031))
    world.live(MINUTE)
    world.clock.set_wall(START - world.clock.wall)
    world.live(HOUR, 10 * SECOND)
    assert world.slot() == "20260301T110000Z"


def year(seed: int, texts: list[str], *, jumps: bool) -> tuple[list[str], set[str]]:
    """The slots run in a year, and those that must have been, by a count of the test's own."""
    rng = random.Random(seed)
    spec = job("check", *texts, catch_up=False)
    world = World(spec, start=datetime(2026, 1, 1, tzinfo=timezone.utc) + 30 * SECOND)
    clock = world.clock
    expected: set[str] = set()
    next_jump = rng.uniform(1, 20) * 86400
    while clock.elapsed < 365 * 86400:
        before = clock.wall
        if jumps and clock.elapsed >= next_jump:
            clock.set_wall(rng.choice([HOUR, -HOUR]))
            next_jump = clock.elapsed + rng.uniform(1, 20) * 86400
        else:
            to_next = spec.schedule.next(before) - before
            clock.advance(min(to_next, timedelta(seconds=rng.uniform(5, 3000))))
        newest = spec.schedule.latest(clock.wall)
        if newest > before:
            expected.add(slot_id(newest))
        world.daemon.tick()
    clock.advance(10 * SECOND)
    world.daemon.tick()
    return [slot for _, slot in world.election.history], expected


@pytest.mark.parametrize(
    "texts", [["1h"], ["daily at 02:30 Europe/Berlin"], ["mon,fri at 02:00, 14:00 America/New_York"]]
)
@pytest.mark.parametrize("jumps", [False, True])
def test_a_year_has_the_right_number_of_runs(texts: list[str], jumps: bool) -> None:
    with capture_logs():
        done, expected = year(7, texts, jumps=jumps)
    assert len(done) == len(set(done))
    assert set(done) == expected
    if not jumps:
        assert len(done) == {"1h": 8760, "dai": 365, "mon": 208}[texts[0][:3].strip()]
