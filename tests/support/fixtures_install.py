"""etcdguard as ``make install`` puts it, made once a run and copied to test hosts that need it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.fixtures_hosts import REQUIRE_VARIABLE
from tests.support.hosts import Host
from tests.support.hosts_image import foreign_release, image

__all__ = ["files_of", "install_on", "make_into", "run_beside", "uninstall_from"]

_CHECKOUT = Path(__file__).parents[2]
_PYTHON = "/usr/bin/python3"  # the distribution's, which the hosts have as well
_PROGRAM = "usr/lib/etcdguard"


def make_into(target: str, dest: Path, prefix: str = "/usr") -> None:
    """Run one of the Makefile's install targets."""
    run_beside(dest, "make", target, f"DESTDIR={dest}", f"PREFIX={prefix}", f"PYTHON={_PYTHON}")


def run_beside(dest: Path, *argv: str) -> str:
    """Run a command that may write below ``dest`` with the distribution of the hosts; what it printed."""
    inside = [] if foreign_release() is None else _inside(image(), dest)
    done = subprocess.run(
        [*inside, *argv], cwd=_CHECKOUT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _inside(tree: Path, dest: Path) -> list[str]:
    """Runs what follows in a copy of that image which is gone afterwards, with this machine's network.

    What pip is told by this machine's environment holds there as well.
    """
    told = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    files = {Path(value) for value in told.values() if value.startswith("/")} | {Path("/etc/pip.conf")}
    return [
        "systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--console=pipe",
        f"--directory={tree}", "--volatile=overlay", "--resolv-conf=replace-host", "--timezone=off",
        f"--bind-ro={_CHECKOUT}", f"--bind={dest}", f"--chdir={_CHECKOUT}",
        *(f"--bind-ro={file}" for file in sorted(files) if file.exists()),
        *(f"--setenv={name}={value}" for name, value in sorted(told.items())),
    ]  # fmt: skip


def files_of(dest: Path) -> set[str]:
    """What stands there, as paths below it."""
    return {str(path.relative_to(dest)) for path in dest.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make install` makes of a place with an older version in it."""
    able = [_PYTHON, "-c", "import ensurepip, venv"]
    if foreign_release() is None and subprocess.run(able, capture_output=True, check=False).returncode:
        missing = f"{_PYTHON} cannot make virtual environments: apt install python3-venv"
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    dest = tmp_path_factory.mktemp("installed")
    for name in ("lib/etcdguard/lib/old.py", "lib/etcdguard.new/broken.py", "bin/etcdguard"):
        (dest / "usr" / name).parent.mkdir(parents=True, exist_ok=True)
        (dest / "usr" / name).write_text("of an older version\n")
    make_into("install", dest)
    return dest


def install_on(host: Host, installed: Path) -> None:
    """Copy it there, below /usr; nothing is set up or started."""
    host.copy_in(installed / _PROGRAM, f"/{_PROGRAM}")
    for name in _others(installed):
        host.copy_in(installed / name, f"/{name}")


def uninstall_from(host: Host, installed: Path) -> None:
    """Undo install_on."""
    host.run("rm", "-r", f"/{_PROGRAM}", *(f"/{name}" for name in _others(installed)))


def _others(installed: Path) -> list[str]:
    return sorted(name for name in files_of(installed) if not name.startswith(f"{_PROGRAM}/"))
