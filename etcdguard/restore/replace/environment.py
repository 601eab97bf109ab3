"""Everything a replacement needs from outside, as values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from etcdguard.clock import Clock
from etcdguard.etcd.wal import WalMetadata, read_wal_metadata
from etcdguard.progress import NoProgress, Progress
from etcdguard.restore.machine import LOCAL, Machine
from etcdguard.restore.replace.survey import ReplaceableCluster
from etcdguard.restore.services import Service

__all__ = ["ReplaceEnvironment"]


@dataclass(frozen=True)
class ReplaceEnvironment:
    """The world of one replacement, on the lost member's host. Times in seconds."""

    cluster: ReplaceableCluster
    endpoints: tuple[str, ...]
    """Where the cluster may answer, besides what the plan knows."""
    service: Service | None
    """What runs etcd here; None when the operator stops and starts it."""
    state_dir: Path
    """Where the plan is kept until it is done."""
    clock: Clock
    sleep: Callable[[float], None]
    tell: Callable[[str], None]
    """Says a line to the operator: what to do by hand."""
    progress: Progress = field(default_factory=NoProgress)
    machine: Machine = LOCAL
    read_wal: Callable[[Path], WalMetadata] = read_wal_metadata
    patience: float = 60.0
    """For a change of members: etcd refuses one within 5 s of another."""
    catch_up: float = 600.0
    """For etcd to start, and for the learner to receive the data."""
    hash_timeout: float = 120.0
    """For one scan of a member's database."""
