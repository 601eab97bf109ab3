"""The daemon's own process: what systemd is told, reloads taken or refused, and an end within a bound."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from etcdguard.config import Loaded
from etcdguard.config.load import parse
from etcdguard.config.settings import CONFIG_COPY
from etcdguard.daemon import engine, service
from etcdguard.daemon.election import Alone
from etcdguard.daemon.engine import Daemon
from etcdguard.daemon.runner import Result
from etcdguard.daemon.service import Service
from etcdguard.errors import EtcdUnreachable
from etcdguard.maintenance.checks.history import History
from tests.support.waiting import PLENTY

RELOAD, END = signal.SIGHUP, signal.SIGTERM


class Systemd:
    """Hears what it is told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self.told: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))

    def close(self) -> None:
        """Read what has come: a datagram is there once its sender goes on."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                self.told.append(self._socket.recv(4096).decode())
        self._socket.close()

    @property
    def statuses(self) -> list[str]:
        return [one.partition("STATUS=")[2] for one in self.told if one.startswith("READY=1")]


class Ticking(Daemon):
    """Each tick is followed by the next of ``signals``, as if it came while the loop went on."""

    signals: list[signal.Signals]

    def tick(self) -> float:
        pause = super().tick()
        if self.signals:
            signal.raise_signal(self.signals.pop(0))
        return pause


class Command:
    """Runs until it is killed, however it is asked to end."""

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.asked = self.killed = False

    def poll(self) -> Result | None:
        return Result(-9) if self.killed else None

    def terminate(self) -> None:
        self.asked = True

    def kill(self) -> None:
        self.killed = True


class Commands:
    """Instead of child processes."""

    started: list[Command]
    made: list[Commands]

    def __init__(self, flags: Sequence[str], environment: dict[str, str], inherited: Sequence[int]) -> None:
        self.made.append(self)
        self.flags = list(flags)
        self.environment = environment
        with os.fdopen(os.dup(inherited[0]), "rb") as copy:
            copy.seek(0)
            self.text = copy.read().decode()

    def start(self, argv: Sequence[str]) -> Command:
        command = Command(argv)
        self.started.append(command)
        return command


class Elected(Alone):
    """An election that counts how often it begins and ends."""

    begun = closed = 0

    def __init__(self, *_: object) -> None:
        super().__init__()
        type(self).begun += 1

    def close(self) -> None:
        type(self).closed += 1


class Silent:
    """A cluster that does not answer."""

    def remember(self, history: History | None) -> History:
        raise EtcdUnreachable("connection refused", hint="-")


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing outside is reached, and no sampler says anything into the log of another test."""
    monkeypatch.setattr(service, "looker", lambda _: nullcontext(Silent()))
    monkeypatch.setattr(service, "Daemon", Ticking)
    monkeypatch.setattr(service, "ChildRunner", Commands)
    monkeypatch.setattr(service, "EtcdElection", Elected)
    monkeypatch.setattr(Commands, "started", [], raising=False)
    monkeypatch.setattr(Commands, "made", [], raising=False)
    monkeypatch.setattr(Elected, "begun", 0)
    monkeypatch.setattr(Elected, "closed", 0)
    yield
    for thread in threading.enumerate():
        if thread.name == "sampler":
            thread.join(PLENTY)


def loads(folder: Path, *daemons: str, names: Sequence[str] = (), **extra: str) -> Callable[[], Loaded]:
    """One configuration after the other, with these sections ``daemon``; then nothing that can be read."""
    clusters = [*names, *["prod"] * len(daemons)]
    rest = "".join(f"{name}: {text}\n" for name, text in extra.items())
    texts = [
        f"cluster: {{name: {cluster}}}\nencryption: {{disabled: true}}\n"
        f"backup: {{spool_dir: {folder}/spool}}\n"
        f"checks: {{schedule: 300d}}\n{rest}"
        f"daemon: {{catch_up: false, listen: null, state_dir: {folder}/state, {daemon}}}\n"
        for cluster, daemon in zip(clusters, daemons, strict=False)
    ]
    return lambda: parse(texts.pop(0) if texts else "cluster: {", folder / "config.yaml")


def serve(folder: Path, load: Callable[[], Loaded], *signals: signal.Signals) -> tuple[Service, Systemd]:
    """Run it to its end."""
    systemd = Systemd(folder)
    Ticking.signals = list(signals)
    environment = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "6000000000", "PATH": "/bin"}
    made = Service(load, environment, lambda _: True, ["--log-format", "json"])
    try:
        made.run()
    finally:
        systemd.close()
    return made, systemd


def test_it_is_ready_alive_and_stopping_in_this_order(tmp_path: Path) -> None:
    before = signal.getsignal(END)
    made, systemd = serve(tmp_path, loads(tmp_path, "election: false"), END)
    kinds = [one.split("\n")[0] for one in systemd.told]
    assert kinds == ["READY=1", "WATCHDOG=1", "STOPPING=1"]
    assert systemd.statuses == ["2 jobs"]
    assert signal.getsignal(END) is before
    assert made.daemon is not None
    assert made.daemon.stopped
    assert [job.name for job in made.daemon.state.jobs] == ["check", "ship"]
    assert Commands.started == [], "nothing is due, and nothing waits in the spool"


def test_a_new_configuration_is_taken(tmp_path: Path) -> None:
    load = loads(
        tmp_path, "election: true", "election: true, ship: 5m", "election: false", defrag="{schedule: 300d}"
    )
    made, systemd = serve(tmp_path, load, RELOAD, RELOAD, END)
    assert systemd.statuses == ["3 jobs"] * 3
    assert systemd.told.count("WATCHDOG=1") == 1, "the next is due in half an hour"
    assert sum(one.startswith("RELOADING=1\nMONOTONIC_USEC=") for one in systemd.told) == 2
    assert made.daemon is not None
    assert made.daemon.state.config_problem is None
    assert Elected.closed == 1, "only when nobody is elected any more"


def test_the_same_election_goes_on(tmp_path: Path) -> None:
    serve(tmp_path, loads(tmp_path, "election: true", "election: true, ship: 5m"), RELOAD, END)
    assert (Elected.begun, Elected.closed) == (1, 1)


@pytest.mark.parametrize(
    ("names", "daemons", "why"),
    [
        (["prod", "other"], 2, "cluster.name cannot change while the daemon runs"),
        (["prod"], 1, "config.yaml"),
    ],
    ids=["of another cluster", "unreadable"],
)
def test_what_cannot_be_used_leaves_the_old_one(
    tmp_path: Path, names: list[str], daemons: int, why: str
) -> None:
    load = loads(tmp_path, *["election: true"] * daemons, names=names)
    with capture_logs() as logs:
        made, systemd = serve(tmp_path, load, RELOAD, END)
    assert systemd.statuses == ["2 jobs", "the new configuration cannot be used, the old one stays"]
    (failed,) = [one for one in logs if one["event"] == "daemon.reload_failed"]
    assert why in failed["error"]
    assert made.daemon is not None
    assert made.daemon.state.config_problem == failed["error"]
    assert made.daemon.state.cluster == "prod"
    assert Elected.closed == 1, "it leads on until the end"


def test_a_job_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_KILL_AFTER", 0.0)
    monkeypatch.setattr(engine, "_LONGEST_PAUSE", 0.01)
    (tmp_path / "spool" / "20261121T020000Z-r00000000000000000020-9f31c2aa").mkdir(parents=True)
    made, _ = serve(tmp_path, loads(tmp_path, "election: false"), END)
    (ship,) = Commands.started
    assert ship.argv[:2] == ["backup", "--spooled"]
    assert (ship.asked, ship.killed) == (True, True)
    assert made.daemon is not None
    assert made.daemon.stopped


def test_a_job_that_cannot_even_be_killed_does_not_hold_the_end_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_GIVE_UP_AFTER", 0.0)
    (tmp_path / "spool" / "entry").mkdir(parents=True)
    made, systemd = serve(tmp_path, loads(tmp_path, "election: true"), END)
    assert systemd.told[-1] == "STOPPING=1"
    assert made.daemon is not None
    assert (made.daemon.stopped, [one.killed for one in Commands.started]) == (False, [False])
    assert Elected.closed == 1


def test_commands_run_with_the_text_that_was_read(tmp_path: Path) -> None:
    serve(tmp_path, loads(tmp_path, "election: false", "election: false, ship: 5m"), RELOAD, END)
    assert ["ship: 5m" in one.text for one in Commands.made] == [False, True]
    before, after = Commands.made
    assert before.flags == ["--config", str(tmp_path / "config.yaml"), "--log-format", "json"]
    (copy,) = set(after.environment) - {"PATH"}
    assert after.environment["PATH"] == "/bin"
    assert copy == CONFIG_COPY, "and nothing of systemd's"


def test_what_may_wait_in_the_spool(tmp_path: Path) -> None:
    wanted = service._wanted(loads(tmp_path, "election: false")())["ship"]
    spool = tmp_path / "spool"
    assert not wanted()
    spool.mkdir()
    (spool / ".lock").touch()
    assert not wanted()
    (spool / "entry").mkdir()
    assert wanted()


def test_a_spool_that_cannot_be_read_is_left_to_the_command(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with capture_logs() as logs:
        assert service._wanted(loads(tmp_path, "election: false")())["ship"]()
    assert logs == [
        {
            "event": "spool.unreadable",
            "log_level": "error",
            "path": str(tmp_path / "spool"),
            "error": "Not a directory",
        }
    ]


def test_a_systemd_that_does_not_listen_is_no_reason_to_end(tmp_path: Path) -> None:
    Ticking.signals = [END]
    with capture_logs() as logs:
        Service(
            loads(tmp_path, "election: false"), {"NOTIFY_SOCKET": str(tmp_path / "gone")}, lambda _: True, ()
        ).run()
    failed = [one["error"] for one in logs if one["event"] == "daemon.notify_failed"]
    assert len(failed) == 2, "READY and STOPPING; nobody wants a sign of life"
    assert all("No such file or directory" in one for one in failed)
    assert "daemon.stopped" in [one["event"] for one in logs]
