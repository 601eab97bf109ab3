"""One test host, as tests drive it: files, commands, services, sshd, power."""

from __future__ import annotations

import errno
import io
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.hosts_machine import Machine

__all__ = ["Disk", "Host"]

_SSH_PORT = 22
_BOOT_TIMEOUT = 180.0
_STOP_TIMEOUT = 60.0
_RUN_TIMEOUT = 120.0
_POLL_SECONDS = 0.05
_FILLER = ".filler"


@dataclass(frozen=True)
class Disk:
    """A small ext4 file system of a host's own: a data directory that is a mount point, a disk to fill."""

    mount_point: str
    mebibytes: int


class Host:
    """One machine. Paths in it are absolute; `path` says where they are on this one."""

    def __init__(self, name: str, address: str, machine: Machine, disk: Disk | None) -> None:
        self.name = name
        self.address = address
        self.ssh_port = _SSH_PORT
        self.disk = disk
        self._machine = machine

    def __repr__(self) -> str:
        return f"Host({self.name}, {self.address})"

    @property
    def pid(self) -> int:
        """Its systemd's process id on this machine; another one after a reboot. Raises MachineFailed."""
        pid = self._machine.leader()
        if pid is None:
            raise self._machine.failure("does not run")
        return pid

    @property
    def running(self) -> bool:
        """Whether it is switched on."""
        return self._machine.running

    @property
    def root(self) -> Path:
        """Its root folder as seen from this machine, while it runs. Absolute links in it lead astray."""
        return Path(f"/proc/{self.pid}/root")

    def path(self, inside: str) -> Path:
        """Where that file of the host is on this machine, for instance to look at etcd's data."""
        return self.root / inside.lstrip("/")

    def run(
        self,
        *command: str,
        text: str | None = None,
        check: bool = True,
        timeout: float = _RUN_TIMEOUT,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there as root, not over ssh; ``text`` is its input. Failure raises AssertionError."""
        done = self._machine.enter(command, text=text, timeout=timeout)
        assert not check or done.returncode == 0, (
            f"{self.name}: {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}"
        )
        return done

    def write(self, inside: str, content: str | bytes, *, mode: int = 0o644, owner: str = "root") -> None:
        """Write a file, its folders too; appears at once and complete."""
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A hidden name, so that nothing that watches the folder takes it for the file.
        scratch = target.with_name(f".{target.name}.new")
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)
        scratch.chmod(mode)
        if owner != "root":
            self.run("chown", f"{owner}:{owner}", str(Path(inside).with_name(scratch.name)))
        scratch.replace(target)

    def read(self, inside: str) -> bytes:
        """A file's content."""
        return self.path(inside).read_bytes()

    def exists(self, inside: str) -> bool:
        """Whether there is such a file or folder."""
        return self.path(inside).exists()

    def copy_in(self, here: Path, inside: str) -> None:
        """Copy a file or a folder to the host, modes and times too."""
        _copy(here, self.path(inside))

    def copy_out(self, inside: str, here: Path) -> None:
        """Copy a file or a folder from the host."""
        _copy(self.path(inside), here)

    def systemctl(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Speak with its systemd."""
        return self.run("systemctl", *arguments, check=check)

    def is_active(self, unit: str) -> bool:
        """Whether the unit runs."""
        return self.systemctl("is-active", "--quiet", unit, check=False).returncode == 0

    def processes(self, name: str) -> list[int]:
        """The processes of that name there, as process ids of this machine."""
        return self._machine.processes(name)

    def kill_processes(self, name: str) -> None:
        """SIGKILL all of that name."""
        self._machine.kill_processes(name)

    def kill_sshd(self) -> None:
        """Kill sshd, open sessions too, until start_sshd: what the sessions ran lives on, without a pipe."""
        self.systemctl("mask", "--runtime", "ssh.service")
        self._machine.kill_processes("sshd")

    def start_sshd(self) -> None:
        """Start it again and wait until it answers."""
        self.systemctl("unmask", "--runtime", "ssh.service")
        self.systemctl("reset-failed", "ssh.service")
        self.systemctl("restart", "ssh.service")
        self.wait_ssh()

    def reboot(self, *, hard: bool = False) -> None:
        """Reboot and wait until sshd answers; ``hard`` is a power cut instead of a shutdown."""
        self.start_reboot(hard=hard)
        self.wait_ssh()

    def start_reboot(self, *, hard: bool = False) -> None:
        """The same without waiting for sshd."""
        if hard:
            self.cut_power()
            self.power_on()
            return
        before = self.pid
        self.systemctl("reboot", "--no-block")
        self._machine.wait_leader(_STOP_TIMEOUT + _BOOT_TIMEOUT, other_than=before)

    def power_off(self) -> None:
        """Shut it down in an orderly way and wait."""
        self.systemctl("poweroff", "--no-block")
        self._machine.wait_off(_STOP_TIMEOUT)

    def cut_power(self) -> None:
        """Switch it off at once. Its page cache is this machine's, so nothing written is lost."""
        self._machine.kill()

    def power_on(self) -> None:
        """Switch it on again, with its files as they were; see wait_ssh."""
        self._machine.boot()
        self._machine.wait_leader(_BOOT_TIMEOUT)

    def wait_ssh(self, timeout: float = _BOOT_TIMEOUT) -> None:
        """Wait until sshd answers. Raises MachineFailed."""
        self._wait_until("has no sshd that answers", self._ssh_answers, timeout)

    def wait_booted(self, timeout: float = _BOOT_TIMEOUT) -> None:
        """Wait until every unit of its systemd runs and sshd answers. Raises MachineFailed."""
        self._wait_until("is not up", self._all_units_run, timeout)
        self.wait_ssh(timeout)

    def fill_disk(self, leave_bytes: int = 0) -> None:
        """Fill its own disk up to ``leave_bytes``; only hosts with a `Disk` can be filled."""
        with self._filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                _write_until_full(file, bytes(size))
            file.truncate(file.tell() - leave_bytes)

    def free_disk(self) -> None:
        """Undo fill_disk."""
        self._filler.unlink()

    @property
    def _filler(self) -> Path:
        assert self.disk is not None, (
            f"{self.name} has no disk of its own: ask for one with HostSet(disk=...)"
        )
        return self.path(self.disk.mount_point) / _FILLER

    def _ssh_answers(self) -> bool:
        try:
            with socket.create_connection((self.address, _SSH_PORT), timeout=1.0) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False  # not up yet: the caller has the deadline

    def _all_units_run(self) -> bool:
        if self._machine.leader() is None:
            return False
        return self.systemctl("is-system-running", check=False).stdout.strip() == "running"

    def _wait_until(self, complaint: str, condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running:
                raise self._machine.failure("is off")
            if time.monotonic() > deadline:
                raise self._machine.failure(f"{complaint} after {timeout:g} s")
            time.sleep(_POLL_SECONDS)


def _write_until_full(file: io.RawIOBase, block: bytes) -> None:
    while True:
        try:
            file.write(block)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
