"""A made-up machine: three members on one file system, a tool that writes plausible directories."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from etcdguard.catalog import Backup
from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.tools import Tool
from etcdguard.etcd.wal import WalMetadata
from etcdguard.model import Member
from etcdguard.restore.by_host import ByHost, Elsewhere
from etcdguard.restore.crew import Crew, NoWatcher, Orders
from etcdguard.restore.environment import Environment, Overrides
from etcdguard.restore.hosts import LocalHost, Site
from etcdguard.restore.machine import Filesystem, Machine
from etcdguard.restore.node import Node
from etcdguard.restore.orchestrate import After
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices, make_plan
from etcdguard.restore.result import HostResult
from tests.support.restores import NOW, SteppingClock, make_manifest

__all__ = ["NAMES", "SNAPSHOT", "World", "nobody", "read_ids", "write_members"]

NAMES = ("m1", "m2", "m3")
SNAPSHOT = b"plaintext canary" * 1000
_TOOL = Tool(Path("/usr/bin/etcdutl"), (3, 5, 26), "etcdutl")
_GIB = 1024**3


def nobody(endpoint: str) -> None:
    raise EtcdUnreachable(f"{endpoint}: connection refused", hint="start it")


def _fetch() -> Iterator[bytes]:
    yield SNAPSHOT[:100]
    yield SNAPSHOT[100:]


@dataclass
class World:
    """``root`` holds ``data/<member>`` and, for m2, ``wal/m2``; each with the old cluster's files."""

    root: Path
    plan: RestorePlan
    environment: Environment
    overrides: Overrides = field(default_factory=Overrides)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    record: Callable[[Mapping[str, Any]], object] = lambda _: None
    backup: Callable[[], str] | None = None

    @classmethod
    def make(cls, root: Path, members: Sequence[Member] = ()) -> World:
        """``members`` are those of the backup, m1 to m3."""
        for name in NAMES:
            snap = root / "data" / name / "member" / "snap"
            snap.mkdir(parents=True)
            (snap / "db").write_text(f"old data of {name}")
        (root / "wal" / "m2").mkdir(parents=True)
        (root / "wal" / "m2" / "0000000000000000-0000000000000000.wal").write_text("old log of m2")
        events: list[Mapping[str, Any]] = []
        choices = Choices(
            here=frozenset(NAMES),
            data_dirs={name: str(root / "data" / name) for name in NAMES},
            wal_dirs={"m2": str(root / "wal" / "m2")},
        )
        manifest = make_manifest(members)
        plan = make_plan(manifest, (), choices, _TOOL, node="cp1", now=NOW, token_hex=secrets.token_hex)
        environment = Environment(
            backup=Backup(manifest, b"", "valid", "sha256:signer"),
            fetch=_fetch,
            tool=_TOOL,
            endpoints=("10.9.9.9:2379",),
            linearizable_read=nobody,
            machine=Machine(
                filesystem=lambda _: Filesystem(device=1, free_bytes=_GIB),
                listening=lambda *_: False,
                holders=lambda _: (),
                is_mount=lambda _: False,
                memory=lambda: 0,
                uid=0,
                cpus=2,
            ),
            run_commands=lambda commands, _: write_members(plan, commands),
            read_wal=read_ids,
        )
        return cls(root, plan, environment, events=events, record=events.append)

    def with_(self, **changes: Any) -> World:
        """The same world with another environment."""
        return replace(self, environment=replace(self.environment, **changes))

    def with_machine(self, **changes: Any) -> World:
        return self.with_(machine=replace(self.environment.machine, **changes))

    def by_host(self, *names: str) -> ByHost:
        """The restore of these members, or of all; its journals stand beside ``root``."""
        state_dir, clock = self.root.with_name(f"{self.root.name}-state"), SteppingClock()
        environment = self.environment
        node = Node(
            "1.2.3",
            state_dir,
            clock,
            lambda *_: nullcontext(environment),
            lambda *_: None,
            environment.machine,
            environment.read_wal,
        )
        site = Site(LocalHost("cp1", node), names or NAMES)
        crew = Crew(self.plan, (site,), "1.2.3", clock, NoWatcher(), Orders(self.overrides))
        elsewhere = Elsewhere(lambda _: None, lambda _: False)
        return ByHost(
            self.plan,
            crew,
            state_dir,
            clock,
            NoWatcher(),
            After(lambda: {}, self.record, self.backup),
            elsewhere,
        )

    def run(self, *names: str) -> HostResult:
        return self.by_host(*names).run("held")

    def files(self) -> dict[str, str]:
        """Everything there is: path to content, with an empty text for folders."""
        return {
            str(path.relative_to(self.root)): path.read_text() if path.is_file() else ""
            for path in self.root.rglob("*")
        }


def write_members(plan: RestorePlan, commands: Sequence[Sequence[str]]) -> None:
    """What the real tool does, as far as the restore looks: directories, and ids in the log."""
    for argv in commands:
        assert argv[:3] == ("/usr/bin/etcdutl", "snapshot", "restore")
        snapshot = Path(argv[3])
        assert snapshot.read_bytes() == SNAPSHOT
        assert snapshot.stat().st_mode & 0o777 == 0o600
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in argv[4:])
        data = Path(flags["data-dir"])
        wal = Path(flags.get("wal-dir", data / "member" / "wal"))
        (data / "member" / "snap").mkdir(parents=True)
        wal.mkdir(parents=True)
        (data / "member" / "snap" / "db").write_text(f"new data of {flags['name']}")
        ids = {"member_id": plan.member(flags["name"]).member_id, "cluster_id": plan.cluster_id}
        (wal / "0000000000000000-0000000000000000.wal").write_text(json.dumps(ids))


def read_ids(wal: Path) -> WalMetadata:
    return WalMetadata(**json.loads((wal / "0000000000000000-0000000000000000.wal").read_text()))
