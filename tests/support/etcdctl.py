"""etcd's own client, as the independent witness of what a cluster holds."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from typing import Any, Protocol

from etcdguard.etcd.local import TlsFiles
from etcdguard.etcd.tools import Tool

__all__ = ["Credentials", "Etcdctl", "Reachable", "enable_auth"]

_PATIENCE = ("--command-timeout=60s", "--dial-timeout=30s")
"""etcdctl's own 5 s and 2 s are less than a busy machine may stand still."""
_TIMEOUT = 240.0
"""Seconds for the process: it asks one endpoint after another, and waits for each."""


@dataclass(frozen=True)
class Credentials:
    """A user of a cluster with authentication; no blanks in the password, etcdctl reads one word."""

    user: str
    password: str


class Reachable(Protocol):
    """A cluster as its clients see it: where it serves, and how to meet it there."""

    @property
    def client_urls(self) -> tuple[str, ...]:
        """One client URL for each member."""

    @property
    def tls(self) -> TlsFiles | None:
        """The client's own files, None where the cluster speaks plain HTTP."""


class Etcdctl:
    """Runs ``etcdctl`` against a cluster; ``tls`` stands in for the cluster's own client certificate.

    Connection and credentials travel in the environment: never a password in argv. Do not repeat one of them
    as a flag, etcdctl refuses a variable that a flag contradicts. It waits for an answer as long as a machine
    may stand still, unless ``--command-timeout`` is among the arguments.
    """

    def __init__(
        self,
        etcdctl: Tool,
        cluster: Reachable,
        credentials: Credentials | None = None,
        *,
        tls: TlsFiles | None = None,
    ) -> None:
        self._argv0 = str(etcdctl.path)
        self._environment = {"ETCDCTL_ENDPOINTS": ",".join(cluster.client_urls)}
        files = tls or cluster.tls
        if files is not None:
            self._environment["ETCDCTL_CACERT"] = str(files.ca)
            self._environment["ETCDCTL_CERT"] = str(files.client_cert)
            self._environment["ETCDCTL_KEY"] = str(files.client_key)
        if credentials is not None:
            self._environment["ETCDCTL_USER"] = f"{credentials.user}:{credentials.password}"

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What it printed. A failure raises AssertionError with what it complained about."""
        done = subprocess.run(
            [self._argv0, *_PATIENCE, *arguments],  # of a flag given twice the last counts
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"etcdctl {' '.join(arguments)}: {done.stderr.strip()}"
        return done.stdout

    def json(self, *arguments: str) -> Any:
        """The parsed answer of ``-w json``; 64-bit ids come as numbers."""
        return json.loads(self.run(*arguments, "-w", "json"))

    def get(self, key: str) -> str | None:
        """The value of one key, or None."""
        answer = self.run("get", key, "--print-value-only")
        return answer.removesuffix("\n") if answer else None

    def revision(self) -> int:
        """The store revision, by a linearizable read."""
        return int(self.json("get", "no-such-key")["header"]["revision"])

    def common_hashes(self) -> dict[str, tuple[int, int]]:
        """The same up to the newest revision that every endpoint has: somebody may write meanwhile."""
        statuses = self.json("endpoint", "status")
        return self.hash_kv(min(one["Status"]["header"]["revision"] for one in statuses))

    def hash_kv(self, revision: int = 0) -> dict[str, tuple[int, int]]:
        """For each endpoint the hash up to ``revision`` (0: its newest) and its compact revision."""
        answers = self.json("endpoint", "hashkv", f"--rev={revision}")
        return {
            answer["Endpoint"]: (answer["HashKV"]["hash"], answer["HashKV"].get("compact_revision", 0))
            for answer in answers
        }


def enable_auth(
    etcdctl: Tool, cluster: Reachable, root: Credentials, reader: Credentials | None = None
) -> Etcdctl:
    """Switch authentication on with ``root``; ``reader`` may only read below ``/``. Returns root's client."""
    anyone = Etcdctl(etcdctl, cluster)
    _add_user(anyone, root)
    anyone.run("user", "grant-role", root.user, "root")
    if reader is not None:
        _add_user(anyone, reader)
        anyone.run("role", "add", "reader")
        anyone.run("role", "grant-permission", "reader", "read", "/", "--prefix=true")
        anyone.run("user", "grant-role", reader.user, "reader")
    anyone.run("auth", "enable")
    return Etcdctl(etcdctl, cluster, root)


def _add_user(etcdctl: Etcdctl, credentials: Credentials) -> None:
    etcdctl.run("user", "add", credentials.user, "--interactive=false", stdin=f"{credentials.password}\n")
