"""A systemd unit: held down by a drop-in file while the restore has it.

Not by a runtime mask: /etc/systemd/system has precedence over /run, so masking a unit that an administrator
wrote there succeeds and does nothing; and a runtime mask is gone after a reboot, when etcd could start on a
directory that is just being swapped. The drop-in works wherever the unit lives, and says who put it there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.restore.files import translating
from etcdguard.restore.services.base import CommandRunner, Patience
from etcdguard.restore.services.processes import Processes
from etcdguard.storage.durable import sync

__all__ = ["Kubelet", "SystemdService"]

_TIMEOUT = 60.0
_FILE = "50-etcdguard-restore.conf"
_BEGIN = "# Held down by etcdguard restore "
_HOLD = (
    _BEGIN + "{plan}, which removes this file when it starts the unit.\n"
    "# To give up: etcdguard restore rollback. By hand: remove this file, then systemctl daemon-reload.\n"
    "[Unit]\n"
    "AssertPathExists=!/\n"
)


@dataclass(frozen=True)
class _State:
    """What systemd says about a unit; ``id`` is its name without aliases."""

    id: str
    load: str
    active: str
    main_pid: str
    control_group: str
    """Empty once no process is left, as a rule."""


class SystemdService:
    """One unit, held for one plan. ``drop_ins`` is /etc/systemd/system, except in tests."""

    def __init__(
        self,
        unit: str,
        plan_id: str,
        *,
        run: CommandRunner,
        patience: Patience,
        processes: Processes,
        drop_ins: Path,
    ) -> None:
        self.name = unit
        self._plan_id = plan_id
        self._run = run
        self._patience = patience
        self._processes = processes
        self._drop_ins = drop_ins

    def check(self) -> None:
        """Raise Refused for a unit that is unknown, masked, or held by another restore."""
        state = self._state()
        if state.load == "masked":
            raise Refused(
                f"{self.name} is masked, so it could not be started again",
                hint=f"`systemctl unmask {self.name}`; the restore itself keeps it down while it must be",
            )
        if state.load != "loaded":
            raise Refused(
                f"systemd cannot load {self.name}: {state.load}",
                hint=f"see why with `systemctl status {self.name}` on that host",
            )
        holder = self._holder(self._hold(state))
        if holder not in (None, self._plan_id):
            raise Refused(
                f"{self.name} is held down by another restore, {holder}",
                hint="finish that one, or take it back with `etcdguard restore rollback`",
            )

    def is_running(self) -> bool:
        """Whether it has a process, or systemd is about to start one."""
        state = self._state()
        if state.active not in ("inactive", "failed") or state.main_pid != "0":
            return True
        # systemd keeps the name of a group it could not remove, with or without processes in it.
        return bool(state.control_group) and self._processes.any_in(state.control_group)

    def stop(self) -> None:
        """Hold the unit down, stop it, and wait until no process is left."""
        self.check()
        hold = self._hold(self._state())
        if not hold.exists():
            # Held first: nothing can start it again between the stop and the hold.
            with translating(f"write {hold}"):
                _write(hold, _HOLD.format(plan=self._plan_id))
        self._systemctl("daemon-reload")
        self._systemctl("stop", "--no-block", "--", self.name)
        if not self._patience.until(lambda: not self.is_running()):
            raise EtcdGuardError(
                f"{self.name} still runs {self._patience.seconds:g} s after it was told to stop",
                hint=f"look at `systemctl status {self.name}`, end it with `systemctl kill`, run this again",
            )

    def release(self) -> None:
        """Remove the hold, if it is this plan's; the unit stays as it is."""
        hold = self._hold(self._state())
        if self._holder(hold) == self._plan_id:
            with translating(f"remove {hold}"):
                _remove(hold)
        self._systemctl("daemon-reload")

    def start(self) -> None:
        """Release the unit, start it, and wait until it has begun."""
        self.release()
        self.check()
        # A unit that failed too often would refuse to start; one that did not has nothing to reset.
        self._run(["systemctl", "reset-failed", "--", self.name], _TIMEOUT)
        # etcd reports itself ready only with a quorum, so waiting here would wait for other hosts.
        self._systemctl("start", "--no-block", "--", self.name)
        if not self._patience.until(self._has_begun) or self._state().active == "failed":
            raise EtcdGuardError(
                f"{self.name} did not start",
                hint=f"see why with `journalctl -u {self.name}` on that host, then run this again",
            )

    def _has_begun(self) -> bool:
        return self._state().active != "inactive"

    def _state(self) -> _State:
        properties = ("Id", "LoadState", "ActiveState", "MainPID", "ControlGroup")
        output = self._systemctl("show", f"--property={','.join(properties)}", "--", self.name)
        found = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
        if not set(properties) <= set(found):
            raise Refused(
                f"systemd does not know {self.name!r} as a service", hint="name one unit, e.g. etcd.service"
            )
        if found["LoadState"] == "not-found":
            raise Refused(
                f"there is no {self.name} on this host",
                hint="compare the configuration's members with `systemctl list-units --all` there",
            )
        return _State(*(found[name] for name in properties))

    def _hold(self, state: _State) -> Path:
        return self._drop_ins / f"{state.id}.d" / _FILE

    @staticmethod
    def _holder(hold: Path) -> str | None:
        """The plan that holds the unit, or None."""
        with translating(f"read {hold}"):
            try:
                first = hold.read_text().partition("\n")[0]
            except FileNotFoundError:
                return None
        return first.removeprefix(_BEGIN).partition(",")[0]

    def _systemctl(self, *arguments: str) -> str:
        return _systemctl(self._run, *arguments)


@dataclass(frozen=True)
class Kubelet:
    """The kubelet, which is only ever restarted."""

    run: CommandRunner
    name: str = "kubelet.service"

    def restart(self) -> None:
        """Restart it and wait for that; raises EtcdGuardError."""
        _systemctl(self.run, "restart", "--", self.name)


def _systemctl(run: CommandRunner, *arguments: str) -> str:
    argv = ["systemctl", *arguments]
    done = run(argv, _TIMEOUT)
    if done.code != 0:
        reason = done.stderr.splitlines()[0] if done.stderr else f"code {done.code}"
        raise EtcdGuardError(f"{' '.join(argv)}: {reason}", hint="run it as root on that host to see more")
    return done.stdout


def _write(file: Path, content: str) -> None:
    """Complete or not at all, and last."""
    if not file.parent.exists():
        file.parent.mkdir(parents=True)
        sync(file.parent.parent)
    scratch = file.with_suffix(".new")
    with scratch.open("w") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    scratch.replace(file)
    sync(file.parent)


def _remove(file: Path) -> None:
    """Its folder too, if nothing else is in it."""
    file.unlink()
    sync(file.parent)
    with suppress(OSError):  # it holds other files
        file.parent.rmdir()
