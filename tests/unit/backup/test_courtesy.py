"""A backup by hand waits for maintenance, and never fails for it."""

from __future__ import annotations

from datetime import timedelta

from etcdguard.backup.courtesy import await_maintenance
from etcdguard.errors import EtcdUnreachable
from tests.support.backups import ManualClock


class Lock:
    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)

    def holder(self) -> str | None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer == "error":
            raise EtcdUnreachable("denied", hint="-")
        return answer


def waited(lock: Lock) -> float:
    clock = ManualClock()

    def sleep(seconds: float) -> None:
        clock.moment += timedelta(seconds=seconds)

    began = clock.monotonic()
    await_maintenance(lock, clock, sleep, patience=60)
    return clock.monotonic() - began


def test_free_or_unknown_is_no_reason_to_wait() -> None:
    assert waited(Lock(None)) == 0
    assert waited(Lock("error")) == 0


def test_it_waits_until_it_is_free_or_patience_ends() -> None:
    assert waited(Lock("defrag", "defrag", "defrag", None)) == 3
    assert waited(Lock("defrag", "error")) == 1
    assert waited(Lock("defrag")) == 60
