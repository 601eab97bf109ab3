"""Processes that coverage must leave alone."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["unmeasured"]


def unmeasured(environment: Mapping[str, str]) -> dict[str, str]:
    """``environment`` for a process that a signal is to interrupt wherever it happens to be.

    coverage measures child processes by ``COVERAGE_PROCESS_CONFIG`` (its ``patch = ["subprocess"]``). Its
    tracer takes a lock whenever a new file begins to run, and a KeyboardInterrupt raised between taking and
    releasing it (``Collector.lock_data``) leaves it locked: the process then waits for itself for ever.
    A process that stands still at a known place when the signal comes is in no such danger.
    """
    return {name: value for name, value in environment.items() if not name.startswith("COVERAGE_PROCESS_")}
