"""A drill: a backup is restored into a throwaway cluster of real etcd here, which is then examined.

Loopback, free ports, a token of its own, a private folder. The members die with this process whatever kills
it, and a folder that was left behind is removed by the next drill.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from etcdguard.catalog import Backup, Catalog
from etcdguard.clock import Clock
from etcdguard.crypto.recipients import Identity
from etcdguard.errors import EtcdGuardError, Refused
from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.client import prefix_end
from etcdguard.etcd.local import LocalCluster
from etcdguard.interrupts import Interrupts
from etcdguard.progress import Progress
from etcdguard.restore.environment import Environment
from etcdguard.restore.gate import check_ids
from etcdguard.restore.planner import Choices, MemberSpec, make_plan
from etcdguard.restore.programs import Programs
from etcdguard.restore.prove import prove
from etcdguard.restore.services import Patience
from etcdguard.restore.stage import stage
from etcdguard.restore.swap import occupied, put
from etcdguard.storage.durable import remove_tree

__all__ = ["Drill", "DrillResult", "key_counts"]

_FOLDER = "etcdguard-drill-"
_LOCK = "lock"
_NO_QUOTA = -1
"""How etcd is told to have none: by its default it refuses the canary in a database of 2 GiB."""
_PROOF_SECONDS = 120.0
_MEMBER_BYTES = 128 * 1024 * 1024
"""What a member needs besides its database: a WAL file is 64 MB, and one is kept ready."""
_MOST_PREFIXES = 200


@dataclass(frozen=True)
class DrillResult:
    """What came of it; sound when ``problems`` is empty. Times in seconds."""

    id: str
    members: int
    problems: tuple[str, ...]
    proofs: Mapping[str, str] = field(default_factory=dict)
    """What was seen, by the name of the proof."""
    keys: Mapping[str, int] = field(default_factory=dict)
    """Live keys by top-level prefix."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long each part took; together the time from nothing to a cluster that serves."""

    @property
    def outcome(self) -> Literal["ok", "failed"]:
        """What scripts read."""
        return "failed" if self.problems else "ok"

    @property
    def facts(self) -> dict[str, Any]:
        """For the event and the report. ``rto_seconds`` is the whole of the time."""
        return {
            "members": self.members,
            "rto_seconds": round(sum(self.seconds.values()), 3),
            "seconds": {name: round(took, 3) for name, took in self.seconds.items()},
            "proofs": dict(self.proofs),
            "keys": dict(self.keys),
        }


class Drill:
    """Restores backups of one catalog, below ``base``, with these programs.

    ``connect`` opens a client of the throwaway cluster. ``identities`` raises WrongKey for none.
    """

    def __init__(
        self,
        catalog: Catalog,
        identities: Callable[[], Sequence[Identity]],
        programs: Programs,
        connect: Callable[[Sequence[str]], AbstractContextManager[AdminClient]],
        base: Path,
        clock: Clock,
        progress: Progress,
    ) -> None:
        self._catalog = catalog
        self._identities = identities
        self._programs = programs
        self._connect = connect
        self._base = base
        self._clock = clock
        self._progress = progress

    def run(self, backup: Backup, members: int = 1) -> DrillResult:
        """Restore it onto so many members and examine them.

        What the backup is to blame for is in the result; Refused, WrongKey and errors of the repository are
        raised.
        """
        self._check_space(backup.manifest.snapshot.db_bytes, members)
        names = tuple(f"drill-{number}" for number in range(1, members + 1))
        with (
            Interrupts() as interrupts,
            _folder(self._base) as folder,
            closing(
                LocalCluster(self._programs.etcd, folder / "members", names=names, quota_bytes=_NO_QUOTA)
            ) as cluster,
            interrupts.allowed(),
        ):
            return self._restored(backup, cluster, interrupts)

    def _restored(self, backup: Backup, cluster: LocalCluster, interrupts: Interrupts) -> DrillResult:
        manifest = backup.manifest
        seconds: dict[str, float] = {}
        plan = make_plan(
            manifest.model_copy(update={"members": ()}),  # those are missed by nobody here
            [
                MemberSpec(name, (cluster.peer_url(name),), (cluster.client_url(name),))
                for name in cluster.names
            ],
            Choices(
                all_here=True,
                data_dirs={name: str(cluster.data_dir(name)) for name in cluster.names},
                no_bump=True,
            ),
            self._programs.restore,
            node="drill",
            now=self._clock.now(),
            token_hex=secrets.token_hex,
        )
        environment = Environment.opened(
            self._catalog,
            backup,
            self._identities,
            self._programs.restore,
            endpoints=(),
            linearizable_read=_nobody,
            progress=self._progress,
        )
        for name in cluster.names:
            cluster.data_dir(name).parent.mkdir(parents=True, exist_ok=True)
        with _timed(seconds, "restore", self._clock):
            stage(plan, plan.members, environment)
            check_ids(plan, plan.members, environment.read_wal, staged=True)
            put(plan.members, occupied(plan.members))
        with self._connect(cluster.client_urls) as client:
            with _timed(seconds, "start", self._clock):
                with interrupts.held():  # not between a process's birth and our knowing it
                    cluster.start_all()
                patience = Patience(_PROOF_SECONDS, time.monotonic, time.sleep)
                proofs = prove(plan, manifest.hash_kv, client, patience, nonce=secrets.token_hex(8))
            failed = [f"{proof.name}: {proof.found}" for proof in proofs if not proof.ok]
            keys = {} if failed else key_counts(client, cluster.client_urls[0])
        return DrillResult(
            backup.id,
            len(cluster.names),
            tuple(failed),
            {proof.name: proof.found for proof in proofs},
            keys,
            seconds,
        )

    def _check_space(self, db_bytes: int, members: int) -> None:
        # The plain snapshot, each member's database, and a snapshot file that every member keeps of it.
        needed = db_bytes + members * (2 * db_bytes + _MEMBER_BYTES)
        free = shutil.disk_usage(self._base).free
        if free < needed:
            raise Refused(
                f"a drill needs {needed >> 20} MiB below {self._base}, which has {free >> 20} MiB free",
                hint="name a larger file system with --dir, or drill with --members 1",
            )


def key_counts(client: AdminClient, endpoint: str) -> dict[str, int]:
    """Live keys by top-level prefix: ``/registry/`` of ``/registry/pods/a``, ``a/`` of ``a/b``, else the key.

    At most 200 prefixes; what lies beyond them is counted under ``…``.
    """
    counts: dict[str, int] = {}
    cursor = b"\0"
    while found := client.entries(endpoint, cursor, 1):
        if len(counts) == _MOST_PREFIXES:
            counts["…"] = client.count(endpoint, cursor, b"\0")
            break
        prefix, end = _top(found[0][0])
        counts[prefix.decode("utf-8", "backslashreplace")] = client.count(endpoint, prefix, end)
        cursor = end
    return counts


def _top(key: bytes) -> tuple[bytes, bytes]:
    """The prefix that a key is counted under, and the first key behind all that are."""
    slash = key.find(b"/", 1)
    if slash < 0:
        return key, key + b"\0"
    return key[: slash + 1], prefix_end(key[: slash + 1])


def _nobody(endpoint: str) -> None:
    raise EtcdGuardError(f"nobody asks {endpoint} in a drill", hint="report this")


@contextmanager
def _timed(seconds: dict[str, float], name: str, clock: Clock) -> Iterator[None]:
    began = clock.monotonic()
    yield
    seconds[name] = clock.monotonic() - began


@contextmanager
def _folder(base: Path) -> Iterator[Path]:
    """A private folder that is gone afterwards; removes what killed drills have left."""
    for left in base.glob(f"{_FOLDER}*"):
        _remove_if_dead(left)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER, dir=base)).resolve()
    lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        remove_tree(folder)
        os.close(lock)


def _remove_if_dead(folder: Path) -> None:
    """A drill that lives holds its lock; one just being born has no lock file yet."""
    with suppress(FileNotFoundError):
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_tree(folder)
        except BlockingIOError:
            return
        finally:
            os.close(lock)
