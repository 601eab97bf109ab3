"""A network of namespaces that can be cut: sites, each with an address of its own, behind one router.

For a process that is alone in a network namespace and is the router (``alone``). A cut drops packets without
a word, as a dead cable does: who waits meets timeouts, not resets. Needs root, iproute2 and util-linux.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations, product
from pathlib import Path
from types import TracebackType

__all__ = ["Network", "Site", "alone"]

_ALONE = "ETCDGUARD_TEST_ALONE"
_CLONE_NEWNET = 0x40000000
_NETWORK = "10.214"
_NOBODY = 9
_SILENCE = 3.0
"""Seconds; a refusal on a machine as busy as this comes sooner."""
_HERE = Path("/proc/thread-self/ns/net")


def alone(module: str, arguments: Sequence[str]) -> int | None:
    """Run ``python -m module`` with these arguments in a network and a process tree of its own.

    None when this process is there already. Whatever runs in it ends with it, however that is.
    """
    if os.environ.get(_ALONE) == str(os.getpid()):  # the first process of its name space
        return None
    argv = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv += [sys.executable, "-m", module, *arguments]
    return subprocess.run(argv, env={**os.environ, _ALONE: "1"}, check=False).returncode


class Site:
    """One machine of the network, as far as sockets go; files and processes are everybody's."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.address = f"{_NETWORK}.{number}.2"
        self.link = f"site{number}"
        # It ends with its standard input, so with us; and with it, the namespace.
        self._anchor = subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE)
        self._wait_apart()
        router = f"{_NETWORK}.{number}.1"
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", str(self._anchor.pid))
        _ip("address", "add", f"{router}/24", "dev", self.link)
        _ip("link", "set", self.link, "up")
        with self.entered():
            _ip("link", "set", "lo", "up")
            _ip("address", "add", f"{self.address}/24", "dev", "eth0")
            _ip("link", "set", "eth0", "up")
            _ip("route", "add", "default", "via", router)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets that this thread opens meanwhile, and processes that it starts, are of this site."""
        before = os.open(_HERE, os.O_RDONLY)
        try:
            there = os.open(f"/proc/{self._anchor.pid}/ns/net", os.O_RDONLY)
            try:
                _enter(there)
            finally:
                os.close(there)
            try:
                yield
            finally:
                _enter(before)
        finally:
            os.close(before)

    def limit(self, bits_per_second: int) -> None:
        """Slow down what comes to this site."""
        rate = ["rate", str(bits_per_second), "burst", "64kb", "latency", "400ms"]
        _run("tc", "qdisc", "replace", "dev", self.link, "root", "tbf", *rate)

    @property
    def carried(self) -> int:
        """Bytes that came from and to this site so far."""
        # /sys would tell of the namespace in which it was mounted.
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            link, _, counters = line.strip().partition(":")
            if link == self.link:
                received, sent = counters.split()[0], counters.split()[8]
                return int(received) + int(sent)
        raise AssertionError(f"{self.link} is gone")

    def close(self) -> None:
        """Let go of it; it goes once nothing runs there."""
        assert self._anchor.stdin is not None
        self._anchor.stdin.close()
        self._anchor.wait()

    def _wait_apart(self) -> None:
        """Until the anchor has left our namespace."""
        ours = _HERE.readlink()
        while Path(f"/proc/{self._anchor.pid}/ns/net").readlink() == ours:
            assert self._anchor.poll() is None, "no network namespace can be made here"


class Network:
    """Sites by name; a context manager. This process is the router, and no cut concerns it."""

    def __init__(self, *names: str) -> None:
        _ip("link", "set", "lo", "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self._sites: dict[str, Site] = {}
        for name in names:
            self._sites[name] = Site(name, len(self._sites) + 1)

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for site in self._sites.values():
            site.close()

    def __getitem__(self, name: str) -> Site:
        return self._sites[name]

    @contextmanager
    def parted(self, some: Sequence[str], others: Sequence[str]) -> Iterator[None]:
        """Drop every packet between the sites of one side and those of the other, and see that it is so."""
        pairs = list(_pairs(some, others))
        for one, other in pairs:
            self._rule("add", one, other)
        try:
            assert self._silent(*pairs[0]), "packets still come through"
            yield
        finally:
            for one, other in pairs:
                self._rule("del", one, other)
        assert not self._silent(*pairs[0]), "packets do not come through again"

    def _silent(self, one: str, other: str) -> bool:
        """Whether a connection to where nobody listens is neither made nor refused."""
        with self[one].entered():
            try:
                socket.create_connection((self[other].address, _NOBODY), _SILENCE).close()
            except TimeoutError:
                return True
            except ConnectionRefusedError:
                return False
        raise AssertionError(f"somebody listens on port {_NOBODY}")

    def _rule(self, verb: str, one: str, other: str) -> None:
        # A "blackhole" answers nobody; "unreachable" and "prohibit" would send ICMP errors.
        _ip("rule", verb, "from", self[one].address, "to", self[other].address, "blackhole")


def _pairs(some: Sequence[str], others: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Both directions of each pair; of sites among each other where the sides are the same."""
    for one, other in combinations(some, 2) if some == others else product(some, others):
        yield one, other
        yield other, one


def _enter(namespace: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns failed")


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
