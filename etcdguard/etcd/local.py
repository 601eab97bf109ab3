"""A throwaway cluster of real etcd processes on this machine's loopback.

Used by ``etcdguard demo``, by drills and by the tests. Nothing of it outlives the process that started it:
every member dies with its parent, also when the parent is killed with SIGKILL.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from etcdguard.children import bare_environment, dying_with_us
from etcdguard.errors import ClusterUnhealthy
from etcdguard.etcd.tools import Tool

__all__ = ["DEFAULT_NAMES", "LocalCluster", "ReservedPort", "TlsFiles"]

DEFAULT_NAMES = ("etcd-1", "etcd-2", "etcd-3")

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.05
_PROBE_TIMEOUT = 2.0
_STOP_TIMEOUT = 15.0
_HEALTH_PATH = "/health?exclude=NOSPACE"
"""A member that is out of space still serves reads; older etcd ignores the parameter."""


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for a cluster that speaks TLS to clients and between peers.

    ``cert`` serves and, between peers, also authenticates the caller, so it needs both extended key usages
    and 127.0.0.1 among its names. With ``client_auth`` every client must show a certificate of ``ca``.
    """

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path
    client_auth: bool = True

    def flags(self) -> list[str]:
        """etcd's flags for it."""
        flags = [
            f"--cert-file={self.cert}",
            f"--key-file={self.key}",
            f"--peer-cert-file={self.cert}",
            f"--peer-key-file={self.key}",
            f"--peer-trusted-ca-file={self.ca}",
            "--peer-client-cert-auth",
        ]
        if self.client_auth:
            flags += [f"--trusted-ca-file={self.ca}", "--client-cert-auth"]
        return flags

    def context(self) -> ssl.SSLContext:
        """How a client meets such a cluster."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.client_cert, self.client_key)
        return context


class ReservedPort:
    """A loopback port that stays ours until released, also while the server that listens there is down.

    The reserving socket never listens. Setting SO_REUSEADDR only after the bind lets etcd (or any server that
    sets it too) listen on the port, while the kernel gives it to nobody who asks for any free port.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind((_HOST, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.number: int = self._socket.getsockname()[1]

    def __enter__(self) -> ReservedPort:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give it back to the kernel."""
        self._socket.close()


class _Member:
    """One etcd process with its own folder: ``data`` and ``etcd.log``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "etcd.log"
        self.client = ReservedPort()
        self.peer = ReservedPort()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def spawn(self, argv: Sequence[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # Its own session, so that the terminal's Ctrl-C reaches only us.
            self.process = subprocess.Popen(
                dying_with_us(argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=bare_environment(),
                start_new_session=True,
            )

    def signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout: float | None = None) -> None:
        if self.process is not None:
            self.process.wait(timeout)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return lines[-1][:500] if lines else "it wrote nothing"


class LocalCluster:
    """One, three or five etcd processes below ``base``, listening on loopback ports that are theirs alone.

    ``quota_bytes`` is etcd's backend quota, less than 0 for none. ``extra_args`` come last and override.
    ``unsafe_no_fsync`` is for tests that write much (from etcd 3.5; ignored before). Members die with the
    *thread* that started them: start a cluster from a thread that lives as long as it shall. As a context
    manager it starts, waits until healthy, and on leaving kills whatever runs; files stay, they belong to
    the owner of ``base``.
    """

    def __init__(
        self,
        etcd: Tool,
        base: Path,
        *,
        names: Sequence[str] = DEFAULT_NAMES,
        tls: TlsFiles | None = None,
        token: str = "etcdguard-local",  # noqa: S107  (etcd's name for a cluster's salt, no secret)
        quota_bytes: int | None = None,
        extra_args: Sequence[str] = (),
        unsafe_no_fsync: bool = False,
    ) -> None:
        self.etcd = etcd
        self.base = base
        self.tls = tls
        self.token = token
        self._options = list(extra_args)
        if unsafe_no_fsync and etcd.version >= (3, 5, 0):
            self._options.insert(0, "--unsafe-no-fsync")
        if quota_bytes is not None:
            self._options.insert(0, f"--quota-backend-bytes={quota_bytes}")
        self._members = {name: _Member(base / name) for name in names}

    def __enter__(self) -> LocalCluster:
        try:
            self.start_all()
            self.wait_healthy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names, in order."""
        return tuple(self._members)

    @property
    def client_urls(self) -> tuple[str, ...]:
        """One client URL for each member, in the order of ``names``."""
        return tuple(map(self.client_url, self._members))

    @property
    def peer_urls(self) -> tuple[str, ...]:
        """One peer URL for each member, in the order of ``names``."""
        return tuple(map(self.peer_url, self._members))

    @property
    def initial_cluster(self) -> str:
        """The value of ``--initial-cluster``."""
        return ",".join(f"{name}={self.peer_url(name)}" for name in self._members)

    def client_url(self, name: str) -> str:
        """Where clients reach that member."""
        return f"{self._scheme}://{_HOST}:{self._members[name].client.number}"

    def peer_url(self, name: str) -> str:
        """Where the other members reach that member."""
        return f"{self._scheme}://{_HOST}:{self._members[name].peer.number}"

    def data_dir(self, name: str) -> Path:
        """The member's data directory; absent until it first started."""
        return self._members[name].folder / "data"

    def log_path(self, name: str) -> Path:
        """Everything the member has printed, over all its starts."""
        return self._members[name].log

    def pid(self, name: str) -> int | None:
        """The process id, or None when the member does not run."""
        member = self._members[name]
        return member.process.pid if member.process is not None and member.running else None

    def start_all(self) -> None:
        """Start every member that does not run, at once: none serves before a quorum is there."""
        for name, member in self._members.items():
            if not member.running:
                self.start_member(name)

    def start_member(self, name: str, *extra_args: str) -> None:
        """Start one member; ``extra_args`` apply to this start only."""
        self._members[name].spawn([*self._argv(name), *extra_args])

    def stop(self) -> None:
        """Let every member end in an orderly way; kill what does not end within 15 s."""
        # One after the other: a leader handing over to members that are leaving too waits 7 s for them.
        for member in self._members.values():
            member.signal(signal.SIGTERM)
            try:
                member.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                member.signal(signal.SIGKILL)
                member.wait()

    def kill(self, *names: str) -> None:
        """SIGKILL those members (all, when none is named) and wait until they are gone."""
        members = [self._members[name] for name in names or self._members]
        for member in members:
            member.signal(signal.SIGKILL)
        for member in members:
            member.wait()

    def close(self) -> None:
        """Kill what runs and give the ports back; the cluster cannot be started again."""
        self.kill()
        for member in self._members.values():
            member.client.release()
            member.peer.release()

    def wait_healthy(self, timeout: float = 60.0, *, names: Iterable[str] | None = None) -> None:
        """Wait until those members (default: all) serve linearizable reads, which takes a leader.

        Raises ClusterUnhealthy after ``timeout`` seconds, or at once when one of them has ended.
        """
        waiting = list(self._members if names is None else names)
        deadline = time.monotonic() + timeout
        while True:
            waiting = [name for name in waiting if not self._healthy(name)]
            if not waiting:
                return
            for name in waiting:
                self._check_running(name)
            if time.monotonic() > deadline:
                raise self._unhealthy(waiting[0], f"is not healthy after {timeout:g} s")
            time.sleep(_POLL_SECONDS)

    @property
    def _scheme(self) -> str:
        return "http" if self.tls is None else "https"

    def _argv(self, name: str) -> list[str]:
        return [
            str(self.etcd.path),
            f"--name={name}",
            f"--data-dir={self.data_dir(name)}",
            f"--listen-client-urls={self.client_url(name)}",
            f"--advertise-client-urls={self.client_url(name)}",
            f"--listen-peer-urls={self.peer_url(name)}",
            f"--initial-advertise-peer-urls={self.peer_url(name)}",
            f"--initial-cluster={self.initial_cluster}",
            f"--initial-cluster-token={self.token}",
            "--logger=zap",
            "--log-outputs=stderr",
            *([] if self.tls is None else self.tls.flags()),
            *self._options,
        ]

    def _healthy(self, name: str) -> bool:
        member = self._members[name]
        connection = (
            http.client.HTTPConnection(_HOST, member.client.number, timeout=_PROBE_TIMEOUT)
            if self.tls is None
            else http.client.HTTPSConnection(
                _HOST, member.client.number, timeout=_PROBE_TIMEOUT, context=self.tls.context()
            )
        )
        try:
            connection.request("GET", _HEALTH_PATH)
            answer = json.loads(connection.getresponse().read())
        except ssl.SSLCertVerificationError as error:
            raise self._unhealthy(name, f"shows a certificate that does not fit: {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError):
            return False  # not listening yet, or ending: wait_healthy has the deadline
        finally:
            connection.close()
        return isinstance(answer, dict) and answer.get("health") == "true"

    def _check_running(self, name: str) -> None:
        process = self._members[name].process
        if process is None:
            raise self._unhealthy(name, "was not started")
        if process.poll() is not None:
            raise self._unhealthy(name, f"ended with code {process.returncode}")

    def _unhealthy(self, name: str, what: str) -> ClusterUnhealthy:
        member = self._members[name]
        return ClusterUnhealthy(
            f"etcd member {name} {what}: {member.last_words()}", hint=f"the member's log is {member.log}"
        )
