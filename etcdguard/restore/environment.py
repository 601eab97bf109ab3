"""Everything a restore needs from outside, as values: the use case reaches for nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from etcdguard.catalog import Backup, Catalog
from etcdguard.crypto.recipients import Identity
from etcdguard.etcd.tools import Tool
from etcdguard.etcd.wal import WalMetadata, read_wal_metadata
from etcdguard.fetch import open_plain
from etcdguard.progress import NoProgress, Progress
from etcdguard.restore.commands import run_commands
from etcdguard.restore.machine import LOCAL, Machine

__all__ = ["Environment", "Overrides"]


@dataclass(frozen=True)
class Overrides:
    """Refusals the operator has waived by name."""

    unsigned: bool = False
    live_quorum: bool = False


@dataclass(frozen=True)
class Environment:
    """The world of one restore on one machine. ``opened`` makes one for a backup of a catalog."""

    backup: Backup
    """The backup that the plan names, as its catalog found it."""
    fetch: Callable[[], Iterator[bytes]]
    """The plaintext snapshot with its trailer, in pieces, all verified but the database's sha256: the tool
    compares that with the trailer. Raises WrongKey, Corruption or the store's errors. Called once to see
    whether it opens, then once for every snapshot file."""
    tool: Tool
    """This machine's restore tool."""
    endpoints: Sequence[str]
    """Where the old cluster may still answer, besides its members' client URLs."""
    linearizable_read: Callable[[str], None]
    """``EtcdClient.linearizable_read``; raises ClusterUnhealthy or EtcdUnreachable without a quorum."""
    progress: Progress = field(default_factory=NoProgress)
    machine: Machine = LOCAL
    run_commands: Callable[[Sequence[Sequence[str]], int], None] = run_commands
    """Run command lines, so many at a time; see ``restore.commands``."""
    read_wal: Callable[[Path], WalMetadata] = read_wal_metadata

    @classmethod
    def opened(
        cls,
        catalog: Catalog,
        backup: Backup,
        identities: Callable[[], Sequence[Identity]],
        tool: Tool,
        *,
        endpoints: Sequence[str],
        linearizable_read: Callable[[str], None],
        progress: Progress,
    ) -> Environment:
        """``identities`` is asked once, when the backup is first opened; it raises WrongKey for none."""
        keys = cache(lambda: tuple(identities()))
        return cls(
            backup=backup,
            fetch=lambda: open_plain(catalog.store, catalog.layout, backup.manifest, keys(), hashing=False),
            tool=tool,
            endpoints=endpoints,
            linearizable_read=linearizable_read,
            progress=progress,
        )
