"""A backup by hand waits for maintenance, and never fails for it."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from etcdguard.backup.courtesy import maintenance
from etcdguard.errors import EtcdGuardError, EtcdUnreachable, Locked

HELD = Locked("held by a defragmentation", hint="wait")
SILENT = EtcdUnreachable("denied", hint="-")


class Lock:
    """Answers one attempt after the other; None: it is had."""

    def __init__(self, *answers: EtcdGuardError | None) -> None:
        self.answers = list(answers)
        self.patience: list[float] = []
        self.held = False

    def acquire(self, patience: float = 0.0) -> None:
        self.patience.append(patience)
        answer = self.answers.pop(0)
        if answer is not None:
            raise answer
        self.held = True

    def release(self) -> None:
        self.held = False


@pytest.mark.parametrize(
    ("answers", "held", "asked", "told"),
    [
        ((None,), True, [0], []),
        ((HELD, None), True, [0, 60], ["backup.waiting"]),
        ((HELD, HELD), False, [0, 60], ["backup.waiting", "backup.without_lock"]),
        ((SILENT,), False, [0], ["backup.without_lock"]),
        ((HELD, SILENT), False, [0, 60], ["backup.waiting", "backup.without_lock"]),
    ],
    ids=["free", "given up in time", "kept", "no answer", "no answer later"],
)
def test_it_is_held_or_done_without(
    answers: tuple[EtcdGuardError | None, ...], held: bool, asked: list[float], told: list[str]
) -> None:
    lock = Lock(*answers)
    with capture_logs() as logs, maintenance(lock, patience=60):
        assert lock.held is held
    assert not lock.held
    assert lock.patience == asked
    assert [one["event"] for one in logs] == told


def test_it_is_given_up_after_a_failure() -> None:
    lock = Lock(None)
    with pytest.raises(Locked, match="spool"), maintenance(lock):
        raise Locked("the spool is taken", hint="wait")
    assert not lock.held
    assert lock.patience == [0]
