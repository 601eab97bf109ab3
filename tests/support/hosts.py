"""Several machines on this one: each with its own files, address, sshd and systemd as process 1.

For tests of what etcdguard does over ssh on machines whose services systemd runs. Needs root. Nothing is left
behind, whatever happens to the process that made them; see ``hosts_keeper``.
"""

from __future__ import annotations

import os
import secrets
import shlex
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tests.support.hosts_host import Disk, Host
from tests.support.hosts_image import HostsUnavailable, image
from tests.support.hosts_keeper import Keeper
from tests.support.hosts_machine import Machine, MachineFailed, cgroup_parents, own_programs

__all__ = ["Disk", "Host", "HostSet", "HostsUnavailable", "MachineFailed"]

_CHECKOUT = Path(__file__).parents[2]
_SSH_TIMEOUT = 120.0

_NETWORK_UNIT = """\
[Unit]
Description=This host's address
Before=network.target
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip address add {address}/24 dev host0
ExecStart=/usr/sbin/ip link set host0 up

[Install]
WantedBy=multi-user.target
"""

_WRAPPER = """\
#!/bin/sh
exec {python} -m etcdguard "$@"
"""

_SSH_CONFIG = """\
Host {name}
  HostName {address}
  Port {port}
  User root
  IdentityFile {folder}/id_ed25519
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  BatchMode yes
  ConnectTimeout 60
"""


class HostSet:
    """``count`` hosts named cp1, cp2, ... on a private network with this machine; a context manager.

    ``ssh_config`` is for ``ssh -F``; ``gateway`` is this machine's address for the hosts. ``shared`` folders
    appear in every host, writable, under the same path. Every host has the checkout and its Python too, and
    ``etcdguard`` on its PATH. All of it on this machine is in ``folder``, named ``bridge`` or named after
    ``unique``. Raises HostsUnavailable and MachineFailed.
    """

    def __init__(self, count: int, *, disk: Disk | None = None, shared: Sequence[Path] = ()) -> None:
        self._names = tuple(f"cp{number}" for number in range(1, count + 1))
        self._disk = disk
        self._shared = tuple(shared)
        self._machines: list[Machine] = []
        self.hosts: tuple[Host, ...] = ()

    def __enter__(self) -> HostSet:
        tree = image()
        self._keeper = Keeper()
        try:
            self._make(tree)
            for machine in self._machines:
                machine.boot()
            for host in self.hosts:
                host.wait_booted()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    def __getitem__(self, name: str) -> Host:
        """The host of that name."""
        return next(host for host in self.hosts if host.name == name)

    def close(self) -> None:
        """Kill all hosts and remove everything that was made for them."""
        self._keeper.close()
        for machine in self._machines:
            machine.forget()

    def cpu_seconds(self) -> float:
        """What all processes of all hosts, those that have ended too, have taken of the processors."""
        lines = (self._cgroup / "cpu.stat").read_text().splitlines()
        (micros,) = (int(line.split()[1]) for line in lines if line.startswith("usage_usec "))
        return micros / 1_000_000

    def ssh(
        self, name: str, *command: str, text: str = "", options: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command over ssh; ``options`` are ssh's own."""
        return subprocess.run(
            ["ssh", "-F", str(self.ssh_config), *options, name, *command],
            input=text,
            capture_output=True,
            text=True,
            timeout=_SSH_TIMEOUT,
            check=False,
        )

    def _make(self, tree: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="etcdguard-hosts-"))
        self._keeper.undo_tree(self.folder)
        # Short, so that "vb-egh1234-cp1" fits into the 15 characters of a link's name.
        self.unique = f"egh{secrets.token_hex(2)}"
        parents = [parent / self.unique for parent in cgroup_parents()]
        for parent in parents:
            self._keeper.undo_cgroup(parent)
            parent.mkdir()
        self._cgroup = parents[-1]
        self.bridge, network = self._make_bridge()
        self.gateway = f"{network}.1"
        self.ssh_config = self.folder / "ssh_config"
        self.known_hosts = self.folder / "known_hosts"
        _keygen(self.folder / "id_ed25519")
        options = own_programs(_CHECKOUT, Path(sys.prefix), Path(sys.base_prefix))
        options += [f"--bind={folder}" for folder in self._shared]
        disk = (self._disk.mount_point, self._disk.mebibytes) if self._disk else None
        self._machines = [
            Machine(
                self.folder / name,
                tree,
                unique=f"{self.unique}-{name}",
                bridge=self.bridge,
                cgroups=[parent / name for parent in parents],
                options=options,
                disk=disk,
            )
            for name in self._names
        ]
        self.hosts = tuple(
            Host(machine.folder.name, f"{network}.{number}", machine, self._disk)
            for number, machine in enumerate(self._machines, start=11)
        )
        for host, machine in zip(self.hosts, self._machines, strict=True):
            self._furnish(host, machine.upper)

    def _make_bridge(self) -> tuple[str, str]:
        """A bridge with a free private network: its name and the network's first three numbers."""
        used = subprocess.run(["ip", "-4", "address"], capture_output=True, text=True, check=True).stdout
        for number in range(256):
            name, network = f"eghosts{number}", f"10.213.{number}"
            if f" {network}." in used:
                continue
            # Making it is also how two runs at once agree on who has it.
            made = subprocess.run(
                ["ip", "link", "add", name, "type", "bridge"], capture_output=True, check=False
            )
            if made.returncode == 0:
                self._keeper.undo_link(name)
                subprocess.run(["ip", "address", "add", f"{network}.1/24", "dev", name], check=True)
                subprocess.run(["ip", "link", "set", name, "up"], check=True)
                return name, network
        raise HostsUnavailable("no bridge could be made in any network of 10.213.0.0/16")

    def _furnish(self, host: Host, upper: Path) -> None:
        """What makes this host this one: names, address, keys, programs."""
        key = upper / "etc/ssh/ssh_host_ed25519_key"
        key.parent.mkdir(parents=True)
        _keygen(key)
        kind, public = key.with_suffix(".pub").read_text().split()[:2]
        with self.known_hosts.open("a") as file:
            file.write(f"{host.address} {kind} {public}\n")
        with self.ssh_config.open("a") as file:
            file.write(
                _SSH_CONFIG.format(
                    name=host.name, address=host.address, port=host.ssh_port, folder=self.folder
                )
            )
        names = "".join(f"{each.address} {each.name}\n" for each in self.hosts)
        wrapper = _WRAPPER.format(python=shlex.quote(str(Path(sys.prefix) / "bin" / "python")))
        unit = _NETWORK_UNIT.format(address=host.address)
        _put(upper / "etc/hostname", f"{host.name}\n")
        _put(upper / "etc/machine-id", f"{uuid.uuid4().hex}\n")
        _put(upper / "etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{names}")
        _put(upper / "etc/systemd/system/host-network.service", unit)
        wants = upper / "etc/systemd/system/multi-user.target.wants/host-network.service"
        wants.parent.mkdir()
        wants.symlink_to("/etc/systemd/system/host-network.service")
        _put(upper / "usr/local/bin/etcdguard", wrapper, 0o755)
        _put(upper / "root/.ssh/authorized_keys", (self.folder / "id_ed25519.pub").read_text(), 0o600)
        for private in (upper / "root", upper / "root/.ssh"):
            private.chmod(0o700)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _put(path: Path, content: str, mode: int = 0o644) -> None:
    with _umask(0o022):
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(mode)


def _keygen(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "etcdguard test", "-f", str(path)],
        stdin=subprocess.DEVNULL,
        check=True,
    )
