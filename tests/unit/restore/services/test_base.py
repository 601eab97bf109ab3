"""Waiting by a given clock, and running real programs."""

from __future__ import annotations

import pytest

from etcdguard.errors import EtcdGuardError
from etcdguard.restore.services import Patience, run_command


class _Time:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_patience_waits_until_it_is_so() -> None:
    time = _Time()

    assert Patience(10, time.monotonic, time.sleep).until(lambda: time.now >= 105)
    assert time.now == pytest.approx(105, abs=0.5)


def test_patience_ends() -> None:
    time = _Time()

    assert not Patience(10, time.monotonic, time.sleep).until(lambda: False)
    assert time.now == pytest.approx(110, abs=0.5)


def test_no_time_is_lost_when_it_is_so_already() -> None:
    time = _Time()

    assert Patience(10, time.monotonic, time.sleep).until(lambda: True)
    assert time.now == 100


def test_a_program_speaks_english_and_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")

    done = run_command(["sh", "-c", "cat; echo $LC_ALL; echo no >&2; exit 3"], 10)

    assert (done.code, done.stdout, done.stderr) == (3, "C", "no")


def test_output_that_is_no_text_is_no_reason_to_fail() -> None:
    assert run_command(["printf", r"\377x"], 10).stdout == "\ufffdx"


def test_a_program_that_does_not_end_is_given_up() -> None:
    with pytest.raises(EtcdGuardError, match=r"sleep 60 did not end within 0\.1 s"):
        run_command(["sleep", "60"], 0.1)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(EtcdGuardError, match="cannot run etcdguard-none: No such file"):
        run_command(["etcdguard-none"], 10)
