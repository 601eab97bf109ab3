"""The file system every test host starts from: a small Debian with systemd and sshd, made once and cached.

``python -m tests.support.hosts_image`` makes it where it is missing and says where it is. With
ETCDGUARD_HOSTS_RELEASE=jammy it is an Ubuntu 22.04 instead: systemd 249 and Python 3.10.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ETCD_USER", "HostsUnavailable", "foreign_release", "image"]

ETCD_USER = "etcd"
"""A system user and group of the image, for an etcd that does not run as root."""

_PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}

_PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "iproute2", "python3", "python3-yaml")

_RELEASE_VARIABLE = "ETCDGUARD_HOSTS_RELEASE"
_FOREIGN_MIRRORS = {"jammy": "http://archive.ubuntu.com/ubuntu"}
# For `make install` there: what this machine's Python makes would not run.
_FOREIGN_PACKAGES = (*_PACKAGES, "make", "python3-venv")

# Units that would do something unasked during a test.
_MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "fstrim.timer",
    "console-getty.service",
)

_SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
MaxStartups 100
MaxSessions 100
"""

_MAKE_TIMEOUT = 1200.0
_RECIPE = repr((_PACKAGES, _MASKED, _SSHD, ETCD_USER, "recipe 1"))


class HostsUnavailable(Exception):
    """Hosts cannot be had on this machine; the text says why."""


@functools.cache
def image() -> Path:
    """The image's root folder, made on first use (a minute). Never write into it. Raises HostsUnavailable."""
    _check_machine()
    codename = foreign_release()
    if codename is None:
        codename, mirror = _own_release()
        what, recipe = [f"--include={','.join(_PACKAGES)}"], _RECIPE
    else:
        mirror = _FOREIGN_MIRRORS[codename]
        what = ["--components=main,universe", f"--include={','.join(_FOREIGN_PACKAGES)}"]
        recipe = f"{_RECIPE} {what}"
    key = hashlib.sha256(f"{recipe} {codename} {platform.machine()}".encode()).hexdigest()[:16]
    root = _cache_root()
    home = root / f"{codename}-{key}"
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{home.name}.lock"):
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=f".{home.name}.", dir=root) as scratch:
                tree = Path(scratch) / "tree"
                _make(tree, codename, mirror, what)
                tree.rename(home)
    return home


def foreign_release() -> str | None:
    """The release asked for in place of this machine's own. Raises HostsUnavailable for an unknown one."""
    codename = os.environ.get(_RELEASE_VARIABLE) or None
    if codename is not None and codename not in _FOREIGN_MIRRORS:
        raise HostsUnavailable(f"{_RELEASE_VARIABLE}: {codename} is none of {', '.join(_FOREIGN_MIRRORS)}")
    return codename


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise HostsUnavailable("test hosts need root")
    missing = sorted({package for program, package in _PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise HostsUnavailable(f"test hosts need the Debian packages {', '.join(missing)}")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        raise HostsUnavailable("this kernel has no overlay file system")


def _cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "etcdguard-tests" / "hosts"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _own_release() -> tuple[str, str]:
    """This machine's own release and the mirror apt has for it.

    The same release, since a virtual environment made from the distribution's Python must run in the hosts.
    """
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    listing = _run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ]
    )
    for line in listing.splitlines():
        name, component, mirror = line.split(" ", 2)
        if codename and (name, component) == (codename, "main"):
            return codename, mirror
    raise HostsUnavailable(f"apt has no mirror for this machine's release {codename or '(unknown)'}")


def _make(tree: Path, codename: str, mirror: str, what: Sequence[str]) -> None:
    # Its mounts of /proc and /sys in a name space of their own: nothing can meet them when it is interrupted.
    alone = ["unshare", "--mount", "--propagation=private"]
    _run([*alone, "debootstrap", "--variant=minbase", *what, codename, str(tree), mirror])
    _run(["chroot", str(tree), "useradd", "--system", "--user-group", "--no-create-home", ETCD_USER])
    for unit in _MASKED:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for key in (tree / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (tree / "etc/ssh/sshd_config.d/hosts.conf").write_text(_SSHD)
    shutil.rmtree(tree / "var/cache/apt")
    shutil.rmtree(tree / "var/lib/apt/lists")


def _run(argv: list[str]) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MAKE_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostsUnavailable(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise HostsUnavailable(f"{argv[0]} failed: {last}")
    return done.stdout


def main() -> int:
    """Make the image where it is missing; fails when it cannot be made and hosts are required."""
    try:
        print(f"host image  {image()}")
    except HostsUnavailable as error:
        print(f"host image  missing  {error}")
        return 1 if os.environ.get("ETCDGUARD_REQUIRE_HOSTS") == "1" else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
