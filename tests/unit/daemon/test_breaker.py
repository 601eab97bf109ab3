from __future__ import annotations

from itertools import pairwise

from etcdguard.daemon.breaker import Breaker


def test_pauses_double_up_to_the_longest_and_end_with_a_success() -> None:
    breaker = Breaker.for_period(3600)
    now, pauses = 1000.0, []
    for _ in range(12):
        assert breaker.allows(now)
        breaker = breaker.failed(now)
        assert not breaker.allows(breaker.retry_at - 0.001)
        pauses.append(breaker.retry_at - now)
        now = breaker.retry_at
    assert pauses[0] == 30
    assert all(later == min(900, 2 * earlier) for earlier, later in pairwise(pauses))
    assert pauses[-1] == 900
    assert breaker.succeeded() == Breaker.for_period(3600)


def test_the_circuit_opens_at_the_third_failure_in_a_row() -> None:
    breaker = Breaker.for_period(3600)
    seen = []
    for _ in range(4):
        breaker = breaker.failed(0)
        seen.append(breaker.open)
    assert seen == [False, False, True, True]
    assert not breaker.succeeded().open
    assert not breaker.failed(0).succeeded().failed(0).open


def test_a_run_that_could_not_begin_is_no_failure() -> None:
    breaker = Breaker.for_period(3600).later(10)
    assert breaker.failures == 0
    assert not breaker.allows(39)
    assert breaker.allows(40)
    for _ in range(12):
        breaker = breaker.later(0)
    assert breaker.retry_at == 900
    assert breaker.failed(0).retry_at == 30
    assert breaker.succeeded().later(0).retry_at == 30


def test_short_periods_have_short_pauses() -> None:
    breaker = Breaker.for_period(10)
    for _ in range(10):
        breaker = breaker.failed(0)
    assert breaker.retry_at == 5
    assert Breaker.for_period(1).failed(0).retry_at == 1
