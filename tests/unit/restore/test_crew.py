"""What one asks of the hosts: whom, what is made of their answers, and of clocks that differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.crew import Crew, NoWatcher
from etcdguard.restore.hosts import Site, sites_of
from etcdguard.restore.steps import StepAnswer, StepRequest
from etcdguard.restore.telling import Tell
from tests.support.restores import NOW, SteppingClock
from tests.unit.restore.fleet import HOSTS, VERSION, Fleet


@dataclass
class Scripted:
    """A host that answers as told."""

    name: str
    answer: StepAnswer
    asked: list[str] = field(default_factory=list)

    def run(self, request: StepRequest, timeout: float, tell: Tell | None = None) -> StepAnswer:
        del timeout, tell
        self.asked.append(request.step)
        return self.answer

    def interrupt(self) -> None: ...

    def close(self) -> None: ...


class Noting(NoWatcher):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def crew(fleet: Fleet, watcher: Noting, *hosts: Scripted) -> Crew:
    sites = [Site(host, (f"m{number}",)) for number, host in enumerate(hosts, 1)]
    return Crew(fleet.plan, sites, VERSION, SteppingClock(), watcher)


def hello(name: str, behind: float = 0.0) -> Scripted:
    facts = {"now": (NOW - timedelta(seconds=behind)).isoformat()}
    return Scripted(name, StepAnswer(version=VERSION, ok=True, facts=facts))


def test_only_those_who_are_named_are_asked(fleet: Fleet) -> None:
    one, two = hello("cp1"), hello("cp2")
    asking = crew(fleet, Noting(), one, two)
    assert list(asking.ask("status", only=["cp2"])) == ["cp2"]
    assert asking.ask("status", only=[]) == {}
    assert asking.ask("status", only=["cp9"]) == {}
    assert (one.asked, two.asked) == ([], ["status"])


def test_a_clock_that_is_off_is_noted_and_no_error(fleet: Fleet) -> None:
    watcher = Noting()
    crew(fleet, watcher, hello("cp1"), hello("cp2", behind=900), hello("cp3", behind=-3600)).hello()
    assert [note.partition(" s off")[0].rpartition(" ")[0] for note in watcher.notes] == [
        "the clock of cp2 is",
        "the clock of cp3 is",
    ]
    seconds = [int(note.partition(" s off")[0].rpartition(" ")[2]) for note in watcher.notes]
    assert 900 <= seconds[0] < 910
    assert 3590 < seconds[1] <= 3600


def test_a_host_that_fails_without_a_word(fleet: Fleet) -> None:
    mute = Scripted("cp2", StepAnswer(version=VERSION, ok=False))
    asking = crew(fleet, Noting(), hello("cp1"), mute)
    outcome = asking.ask("status")["cp2"]
    assert isinstance(outcome, Refused)
    assert outcome.message == "cp2: the step failed without a word"
    with pytest.raises(EtcdGuardError, match="cp2: the step failed without a word"):
        asking.all("status")


def test_members_of_unknown_host_are_here_or_left_out(fleet: Fleet) -> None:
    members = [fleet.plan.members[0], fleet.plan.members[1].model_copy(update={"host": None})]
    plan = fleet.plan.model_copy(update={"members": tuple(members)})
    assert [site.host.name for site in sites_of(plan, "here", lambda name, _: hello(name))] == ["cp1", "here"]
    (only,) = sites_of(plan, None, lambda name, _: hello(name))
    assert (only.host.name, only.members) == (HOSTS[0], ("m1",))
