"""All hosts at once: one step sent to every one, and no going on before the last has answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import SecretStr

from etcdguard.clock import Clock, instant
from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.environment import Overrides
from etcdguard.restore.hosts import Site
from etcdguard.restore.plan import RestorePlan, plan_document
from etcdguard.restore.preflight import raise_all
from etcdguard.restore.steps import StepAnswer, StepName, StepProgress, StepRequest

__all__ = ["Crew", "NoWatcher", "Orders", "Outcome", "Watcher", "failures", "good"]

_LONG = 6 * 3600.0
_TIMEOUTS: dict[StepName, float] = {"hello": 60.0, "status": 60.0, "stage": _LONG, "discard": 600.0}
_TIMEOUT = 300.0
_SKEW_SECONDS = 60.0


class Watcher(Protocol):
    """Told what happens. ``answered`` and ``progress`` may be called from any thread."""

    def phase(self, name: str) -> None:
        """A phase begins on all hosts."""

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """A host has ended a step."""

    def progress(self, host: str, at: StepProgress) -> None:
        """How far a host is with the step it is at; about once a second, and not by every host."""

    def note(self, text: str) -> None:
        """Something a person should know."""


class NoWatcher:
    """Nobody watches."""

    def phase(self, name: str) -> None:
        """See Watcher."""

    def answered(self, host: str, step: str, seconds: float, error: EtcdGuardError | None) -> None:
        """See Watcher."""

    def progress(self, host: str, at: StepProgress) -> None:
        """See Watcher."""

    def note(self, text: str) -> None:
        """See Watcher."""


@dataclass(frozen=True)
class Orders:
    """What every host is told besides the plan. ``identities`` go only into the steps that need them."""

    overrides: Overrides = field(default_factory=Overrides)
    identities: tuple[SecretStr, ...] = ()
    repository: str | None = None
    tool: str | None = None


Outcome = StepAnswer | EtcdGuardError
"""What came of a step: the host's answer, or why there is none or a bad one."""


class Crew:
    """The hosts of one plan."""

    def __init__(
        self,
        plan: RestorePlan,
        sites: Sequence[Site],
        version: str,
        clock: Clock,
        watcher: Watcher,
        orders: Orders | None = None,
    ) -> None:
        self.sites = tuple(sites)
        self._document = plan_document(plan)
        self._version = version
        self._clock = clock
        self._watcher = watcher
        self._orders = orders or Orders()

    def ask(
        self, step: StepName, *, only: Sequence[str] | None = None, proven: bool = False
    ) -> dict[str, Outcome]:
        """What every host, or every one of ``only``, says to the step. An interrupt waits for all of them."""
        sites = [site for site in self.sites if only is None or site.host.name in only]
        futures: dict[str, Future[Outcome]] = {site.host.name: Future() for site in sites}

        def serve(site: Site) -> None:
            future = futures[site.host.name]
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(self._one(site, step, proven))
                except BaseException as error:  # noqa: BLE001 - it is for whoever waits
                    future.set_exception(error)

        try:
            for site in sites:
                threading.Thread(target=serve, args=(site,), name=f"{step} {site.host.name}").start()
            wait(futures.values())
        except BaseException:
            _cut_short(sites, futures.values())
            raise
        return {name: future.result() for name, future in futures.items()}

    def all(self, step: StepName, *, proven: bool = False) -> dict[str, StepAnswer]:
        """Every host's good answer; raises one error that tells all that went wrong."""
        return good(self.ask(step, proven=proven))

    def hello(self) -> None:
        """Reach every host and see that it runs this etcdguard; raises Refused that tells all problems."""
        began = self._clock.now()
        outcomes = self.ask("hello")
        errors = failures(outcomes)
        if errors:
            raise_all([Refused(error.message, hint=error.hint) for error in errors])
        took = (self._clock.now() - began).total_seconds()
        for host, answer in good(outcomes).items():
            off = abs((instant(answer.facts["now"]) - began).total_seconds())
            if off > took + _SKEW_SECONDS:
                self._watcher.note(f"the clock of {host} is {off:.0f} s off: set it before relying on TLS")

    def preflight(self) -> None:
        """Every check on every host; raises one error that tells all findings, each once."""
        answers = self.all("preflight")
        hosts: dict[tuple[int, str, str], list[str]] = {}
        for host, answer in answers.items():
            for finding in answer.findings:
                hosts.setdefault((finding.exit_code, finding.message, finding.hint), []).append(host)
        findings = {
            (found.exit_code, found.message, found.hint): found
            for answer in answers.values()
            for found in answer.findings
        }
        raise_all([finding.error(", ".join(hosts[key])) for key, finding in findings.items()])

    def close(self) -> None:
        """Let go of all hosts."""
        for site in self.sites:
            site.host.interrupt()  # so that all end at once, not one after the other
        for site in self.sites:
            site.host.close()

    def _one(self, site: Site, step: StepName, proven: bool) -> Outcome:
        secret = step in ("preflight", "stage")
        request = StepRequest(
            version=self._version,
            step=step,
            plan=None if step == "hello" else self._document,
            members=site.members,
            unsigned=self._orders.overrides.unsigned,
            live_quorum=self._orders.overrides.live_quorum,
            proven=proven,
            repository=self._orders.repository,
            tool=self._orders.tool,
            progress=step == "stage",
            identities=self._orders.identities if secret else (),
        )
        began = self._clock.monotonic()
        timeout, name = _TIMEOUTS.get(step, _TIMEOUT), site.host.name
        outcome = _sent(
            lambda: site.host.run(request, timeout, lambda at: self._watcher.progress(name, at)), name
        )
        error = outcome if isinstance(outcome, EtcdGuardError) else None
        self._watcher.answered(site.host.name, step, self._clock.monotonic() - began, error)
        return outcome


def good(outcomes: Mapping[str, Outcome]) -> dict[str, StepAnswer]:
    """The answers; raises one error that tells all that went wrong."""
    raise_all(failures(outcomes))
    return {host: one for host, one in outcomes.items() if isinstance(one, StepAnswer)}


def failures(outcomes: Mapping[str, Any]) -> list[EtcdGuardError]:
    """What went wrong, in the order of the hosts."""
    return [one for one in outcomes.values() if isinstance(one, EtcdGuardError)]


def _cut_short(sites: Sequence[Site], futures: Collection[Future[Outcome]]) -> None:
    """Wait for all, whatever interrupts again: no host may be told to go back while it still goes forward."""
    while not all(future.done() for future in futures):
        with suppress(KeyboardInterrupt):
            for future in futures:
                future.cancel()  # what has not begun
            for site in sites:
                site.host.interrupt()
            # Not for what was cancelled: if its thread never came to be, nobody would tell.
            wait([future for future in futures if not future.done()])


def _sent(run: Callable[[], StepAnswer], host: str) -> Outcome:
    try:
        answer = run()
    except EtcdGuardError as error:
        return error
    if answer.ok:
        return answer
    if answer.error is None:
        return Refused(f"{host}: the step failed without a word", hint="look at etcdguard's log on that host")
    return answer.error.error(host)
