"""A backup lets the node's own work go first, and by hand waits for maintenance, and never fails for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from etcdguard.backup.courtesy import maintenance
from etcdguard.errors import EtcdGuardError, EtcdUnreachable, Locked

HELD = Locked("held by a defragmentation", hint="wait")
SILENT = EtcdUnreachable("denied", hint="-")


STEP_BACK = """
import os, threading
from etcdguard.backup.courtesy import step_back
step_back()
def tell(): print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
thread = threading.Thread(target=tell)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("more", [0, 5, 12])
def test_other_work_of_the_node_goes_first(more: int) -> None:
    before = min(os.getpriority(os.PRIO_PROCESS, 0) + more, 19)
    argv = ["nice", "-n", str(more), sys.executable, "-c", STEP_BACK]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert int(done.stdout) == max(before, 5)


def test_the_command_is_as_nice_as_its_unit() -> None:
    from etcdguard.backup import courtesy

    unit = Path(__file__).parents[3] / "systemd" / "etcdguard-backup.service"
    assert f"Nice={courtesy._NICE}" in unit.read_text().splitlines()


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
