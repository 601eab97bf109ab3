"""A signal is never lost, never raises twice, and never where it must not."""

# ruff: noqa: PT012 - how far the block came before the signal raised is what is tested here

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from etcdguard.interrupts import Interrupts

_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def _send(number: signal.Signals = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", _SIGNALS)
def test_raises_where_allowed(number: signal.Signals) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.allowed():
        _send(number)
        reached.append("after")
    assert reached == []


@pytest.mark.parametrize("number", _SIGNALS)
def test_waits_for_the_end_where_not_allowed(number: signal.Signals) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), Interrupts():
        _send(number)
        reached.append("after")
    assert reached == ["after"]


def test_one_that_came_before_raises_as_soon_as_it_may() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts:
        _send()
        with interrupts.allowed():
            pytest.fail("not reached")


def test_held_puts_it_off() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.allowed():
        with interrupts.held():
            _send()
            reached.append("held")
        reached.append("after")
    assert reached == ["held"]


def test_allowed_again_after_held() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.allowed():
        with interrupts.held():
            pass
        _send()
        pytest.fail("not reached")


def test_a_second_one_does_not_cut_off_the_cleaning_up() -> None:
    cleaned = []
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.allowed():
        try:
            _send()
        finally:
            _send()
            _send(signal.SIGTERM)
            cleaned.append("all")
    assert cleaned == ["all"]


def test_one_whose_exception_was_swallowed_is_remembered() -> None:
    with pytest.raises(KeyboardInterrupt), Interrupts() as interrupts, interrupts.allowed():
        with suppress(KeyboardInterrupt):  # as Python does in a destructor
            _send()
        interrupts.check()
        pytest.fail("not reached")


def test_it_comes_before_an_error_that_it_caused() -> None:
    with pytest.raises(KeyboardInterrupt) as raised, Interrupts():
        _send()
        raise OSError("a child was interrupted, too")
    assert isinstance(raised.value.__cause__, OSError)


def test_errors_pass_without_a_signal() -> None:
    with pytest.raises(OSError, match="disk"), Interrupts() as interrupts, interrupts.allowed():
        raise OSError("disk")


def test_handlers_are_put_back_and_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        handlers = [signal.getsignal(number) for number in _SIGNALS]
        with Interrupts() as interrupts, interrupts.allowed():
            _send(signal.SIGHUP)
        assert [signal.getsignal(number) for number in _SIGNALS] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)
