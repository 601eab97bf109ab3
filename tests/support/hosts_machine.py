"""One machine as processes: systemd-nspawn booting a real systemd from an overlay of the image.

All its mounts are in a mount name space that dies with its processes, and all its processes are in a control
group that is its own, so nothing of it can be left behind on the machine that runs the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.hosts_keeper import kill_cgroup, processes_of

__all__ = ["Machine", "MachineFailed", "cgroup_parents", "own_programs"]

_DISK = "disk.img"

# $1: the machine's folder, $2: the image, then the command. nspawn ends with 133 when the machine reboots.
_BOOT = """\
set -e
folder=$1 image=$2; shift 2
for group in "$folder"/cgroups/*; do echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs -o mode=755 tmpfs /run
mount -t overlay -o "lowerdir=$image,upperdir=$folder/upper,workdir=$folder/work" overlay "$folder/root"
if [ -e "$folder/disk.img" ]; then mount -o loop "$folder/disk.img" "$folder/disk"; fi
set +e
while :; do "$@"; [ $? = 133 ] || exit; done
"""

_ALONE = ("unshare", "--mount", "--propagation=private")
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}
_POLL_SECONDS = 0.05
_FORGET_TIMEOUT = 10.0
_LOG_BYTES = 2000


class MachineFailed(Exception):
    """A machine did not do what it was told; the text says what and shows what it printed last."""


class Machine:
    """Boots, kills and enters one machine, whose files are in ``folder``. ``unique`` names it on this one."""

    def __init__(
        self,
        folder: Path,
        image: Path,
        *,
        unique: str,
        bridge: str,
        cgroups: Sequence[Path],
        options: Sequence[str],
        disk: tuple[str, int] | None,
    ) -> None:
        self.folder = folder
        self.console = folder / "console.log"
        self._image = image
        self._cgroups = tuple(cgroups)
        self._process: subprocess.Popen[bytes] | None = None
        self._argv = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={folder / 'root'}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--console=read-only",
            "--resolv-conf=off",
            "--timezone=off",
            "--link-journal=no",
            f"--machine={unique}",
            f"--hostname={folder.name}",
            f"--network-bridge={bridge}",
            *options,
        ]
        for name in ("upper", "work", "root", "cgroups"):
            (folder / name).mkdir(parents=True)
        for number, cgroup in enumerate(self._cgroups):
            (folder / "cgroups" / str(number)).symlink_to(cgroup)
        if disk is not None:
            mount_point, mebibytes = disk
            self._argv.append(f"--bind={folder / 'disk'}:{mount_point}")
            self._make_disk(mebibytes)

    @property
    def upper(self) -> Path:
        """What the machine has beyond the image; to be filled before it first boots."""
        return self.folder / "upper"

    @property
    def running(self) -> bool:
        """Whether it has power; it may be booting or shutting down."""
        return self._process is not None and self._process.poll() is None

    def boot(self) -> None:
        """Switch it on; returns at once."""
        if self.running:
            raise MachineFailed(f"{self.folder.name} runs already")
        for cgroup in self._cgroups:
            cgroup.mkdir(parents=True, exist_ok=True)
        with self.console.open("ab") as console:
            self._process = subprocess.Popen(
                [*_ALONE, "sh", "-c", _BOOT, "boot", str(self.folder), str(self._image), *self._argv],
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )

    def kill(self) -> None:
        """Cut the power: every process ends where it is. What they wrote to files stays written."""
        for cgroup in self._cgroups:
            kill_cgroup(cgroup)
        if self._process is not None:
            self._process.wait()

    def forget(self) -> None:
        """Take notice of its end, when something else killed it."""
        if self._process is not None:
            self._process.wait(_FORGET_TIMEOUT)

    def wait_off(self, timeout: float) -> None:
        """Wait until it has shut down. Raises MachineFailed."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise self.failure(f"did not shut down within {timeout:g} s") from error

    def leader(self) -> int | None:
        """The process id, on this machine, of the systemd that is process 1 in there."""
        payload = self._cgroups[0] / "payload"
        for procs in (payload / "init.scope" / "cgroup.procs", payload / "cgroup.procs"):
            try:
                candidates = [int(line) for line in procs.read_text().split()]
            except (FileNotFoundError, OSError):
                continue  # not made yet, or removed just now
            for pid in candidates:
                if _inner_pid(pid) == 1:
                    return pid
        return None

    def wait_leader(self, timeout: float, *, other_than: int | None = None) -> int:
        """Wait until there is a process 1 (another than that one). Raises MachineFailed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pid = self.leader()
            if pid is not None and pid != other_than:
                return pid
            if not self.running:
                raise self.failure("ended")
            time.sleep(_POLL_SECONDS)
        raise self.failure(f"has no process 1 after {timeout:g} s")

    def processes(self, name: str) -> list[int]:
        """The processes of that name in there, as process ids of this machine."""
        return [pid for pid in processes_of(self._cgroups[0]) if _command(pid) == name[:15]]

    def kill_processes(self, name: str) -> None:
        """SIGKILL all of that name."""
        for pid in self.processes(name):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def enter(
        self, command: Sequence[str], *, text: str | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there as root, without network or sshd."""
        pid = self.leader()
        if pid is None:
            raise self.failure("does not run")
        return subprocess.run(
            ["nsenter", "-t", str(pid), "-m", "-p", "-u", "-n", "-i", "-r", "-w", *command],
            env=_ENVIRONMENT,
            input=text if text is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def failure(self, what: str) -> MachineFailed:
        """The error for it, with the end of what its console showed."""
        shown = self.console.read_bytes()[-_LOG_BYTES:].decode(errors="replace") if self.running else ""
        return MachineFailed(f"{self.folder.name} {what}\n{shown}".rstrip())

    def _make_disk(self, mebibytes: int) -> None:
        (self.folder / "disk").mkdir()
        image = self.folder / _DISK
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(image)], check=True, capture_output=True)


def cgroup_parents() -> tuple[Path, ...]:
    """This process's own control groups in the hierarchies a systemd manages: one, or two when hybrid."""
    mounted = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2":
            mounted[""] = Path(fields.split(" ")[4])
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            mounted["name=systemd"] = Path(fields.split(" ")[4])
    own: Mapping[str, str] = {
        controllers: path
        for _, controllers, path in (
            line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()
        )
    }
    return tuple(mounted[name] / own[name].lstrip("/") for name in ("name=systemd", "") if name in mounted)


def own_programs(checkout: Path, prefix: Path, base_prefix: Path) -> list[str]:
    """nspawn's options that make this checkout and its Python appear, read-only, where they are here.

    A Python of the distribution needs nothing: the image is of the same release.
    """
    options = [f"--bind-ro={checkout}"]
    if not prefix.is_relative_to(checkout):
        options.append(f"--bind-ro={prefix}")
    if base_prefix == Path("/usr"):
        return options
    options.append(f"--bind-ro={base_prefix / 'lib'}")
    link = prefix / "bin" / "python"
    while link.is_symlink():
        link = Path(os.path.normpath(link.parent / link.readlink()))
        if not link.is_relative_to(prefix):
            options.append(f"--bind-ro={link.resolve()}:{link}")
    return options


def _inner_pid(pid: int) -> int | None:
    """What that process is called in its own process name space, None when that is this one."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
    return int(numbers[-1]) if len(numbers) > 1 else None


def _command(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return None
