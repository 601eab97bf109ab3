"""How a judgment becomes a line: the worst member first, the others behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError
from etcdguard.maintenance.checks.thresholds import Limits
from etcdguard.maintenance.results import CheckResult, Outcome

__all__ = ["fail", "line", "ok", "skip", "warn", "worst"]

_PREFIX = "cluster."


def ok(name: str, value: str, *, hint: str | None = None) -> CheckResult:
    """A good line; its hint is advice."""
    return line(name, Outcome.OK, value, hint=hint)


def skip(name: str, why: str, *, hint: str | None = None) -> CheckResult:
    """A check that could not be made."""
    return line(name, Outcome.SKIP, why, hint=hint)


def warn(name: str, value: str, hint: str) -> CheckResult:
    """Something to look at."""
    return line(name, Outcome.WARN, value, hint=hint)


def fail(name: str, value: str, hint: str, error: type[EtcdGuardError] = ClusterUnhealthy) -> CheckResult:
    """Something to mend now."""
    return line(name, Outcome.FAIL, value, hint=hint, error=error)


def line(
    name: str,
    outcome: Outcome,
    value: str,
    limits: Limits | None = None,
    hint: str | None = None,
    error: type[EtcdGuardError] = ClusterUnhealthy,
) -> CheckResult:
    """One line under ``cluster.``."""
    return CheckResult(
        _PREFIX + name, outcome, value, None if limits is None else str(limits), hint, error=error
    )


def worst(
    name: str,
    limits: Limits,
    values: Mapping[str, float],
    *,
    none: str,
    hint: str,
    advice: str | None = None,
    said: Callable[[str, float], str] | None = None,
    on: str = "on",
) -> CheckResult:
    """Judge each value and report them, the worst first. Without any, a SKIP that says ``none``.

    ``hint`` goes with a bad line, ``advice`` with a good one; ``said`` writes one value, ``on`` stands before
    whose it is.
    """
    if not values:
        return line(name, Outcome.SKIP, none, limits)
    say = said or (lambda of, value: limits.text(value))
    order = sorted(values, key=lambda of: values[of], reverse=not limits.falling)
    outcome = limits.judge(values[order[0]])
    whose: dict[str, list[str]] = {}
    for of in order:
        whose.setdefault(say(of, values[of]), []).append(of)
    text = "; ".join(f"{value} {on} {', '.join(names)}" for value, names in whose.items())
    return line(name, outcome, text, limits, advice if outcome is Outcome.OK else hint)
