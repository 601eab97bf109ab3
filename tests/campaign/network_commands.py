"""A command whose network is cut in the middle: it ends, says so, and the next one makes up for it."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from etcd3.exceptions import Etcd3Exception

from etcdguard.backup.spool import Spool
from etcdguard.etcd.admin import AdminClient
from etcdguard.etcd.connection import ConnectionOptions
from tests.campaign.network_site import MEMBERS, NetworkSite
from tests.campaign.table import Row
from tests.e2e.running import Done
from tests.support.backups import chain_problems
from tests.support.defrags import fragment
from tests.support.load import fill
from tests.support.waiting import eventually

__all__ = ["HANDS", "Hand", "command_rows", "sites_of"]

DATABASE_BYTES = 24_000_000
_LINK = 24_000_000
"""Bits a second to the machine where the command runs: there shall be a middle."""
_CUT_OFF = {2, 3, 5, 10}
"""Exit codes that say what is out of reach (docs/exit-codes.md)."""
_BOUND = 420.0
"""Seconds: a repository is insisted on for two minutes, an operation that was begun then for one more."""
_BOUND_OF_DEFRAG = 1500.0
"""Ten minutes for a member to be defragmented, and ten in which it is waited for (docs/defrag.md)."""
_PASSES = 20.0
_LOCK_IS_FREE = 120.0


@dataclass(frozen=True)
class Hand:
    """A command, and what it is cut off from."""

    command: str
    cut_from: str

    @property
    def name(self) -> str:
        return f"{self.command}-{self.cut_from}".replace(" ", "-")

    @property
    def far(self) -> list[str]:
        return {"etcd": [*MEMBERS], "S3": ["s3"], "both": [*MEMBERS, "s3"]}[self.cut_from]


HANDS = (
    Hand("backup", "etcd"),
    Hand("backup", "S3"),
    Hand("backup", "both"),
    Hand("verify", "S3"),
    Hand("restore", "S3"),
    Hand("prune", "S3"),
    Hand("defrag", "etcd"),
    Hand("defrag", "S3"),
)
_ALONE = "defrag"
"""Not beside others: it blocks members, and theirs are the same. It is cut off while it does a member."""


def _member(fraction: float) -> int:
    """Which of the members that are done one after the other."""
    return 1 + int(fraction * len(MEMBERS))


def sites_of(hands: Sequence[Hand]) -> list[str]:
    """The machines that these need."""
    return [hand.name for hand in hands]


def command_rows(
    site: NetworkSite, hands: Sequence[Hand], rng: random.Random, *, for_good: bool = True
) -> Iterator[Row]:
    """Each is cut off for 20 s and, unless told otherwise, in another run until it ends. Several at once."""
    eventually(lambda: _filled(site), "the cluster holds enough")
    seeds = {hand: rng.random() for hand in hands}
    with ThreadPoolExecutor(max_workers=len(hands)) as pool:

        def rows(hand: Hand) -> list[Row]:
            moments = random.Random(seeds[hand])
            bench = _Bench(site, hand)
            found = []
            bound = _BOUND_OF_DEFRAG if hand.command == _ALONE else _BOUND
            for lasts in (bound, _PASSES) if for_good else (_PASSES,):
                fraction = moments.uniform(0.05, 0.7)
                how_long = "20 s" if lasts == _PASSES else "until it ends"
                when = f"at member {_member(fraction)}" if hand.command == _ALONE else f"after {fraction:.0%}"
                cells = (hand.command, hand.cut_from, f"{when}, {how_long}")
                found.append(Row.of(cells, partial(bench.perform, fraction, lasts)))
            return found

        for group in pool.map(rows, [hand for hand in hands if hand.command != _ALONE]):
            yield from group
        for hand in hands:
            if hand.command == _ALONE:
                yield from rows(hand)


def _filled(site: NetworkSite) -> bool:
    try:
        fill(site.members, DATABASE_BYTES)
    except Etcd3Exception:  # it may have to find its leader again, after the cuts before
        return False
    return True


class _Bench:
    """One command on a machine of its own, with a repository of its own."""

    def __init__(self, site: NetworkSite, hand: Hand) -> None:
        self.site = site
        self.hand = hand
        self.machine = site.network[hand.name]
        self.here = site.installation(
            hand.name,
            cluster_name=hand.name,
            retention={"keep_last": 1, "max_fraction": 1.0},
            defrag={
                "min_size": "1MiB",
                "min_free": "1MiB",
                "settle": "1s",
                "compact_age": "1s",
                "at_most_every": "1s",
            },
        )
        self.catalog = site.catalog(self.here, hand.name)
        self.data = self.here.folder / "members"
        self.data.mkdir()
        self.machine.limit(_LINK)

    @cached_property
    def bytes(self) -> int:
        """What the machine sends and receives while nothing is wrong."""
        self._prepare()
        before = self.machine.carried
        done = self._ended(self._start(), _BOUND)
        assert done.code == 0, done.err
        return self.machine.carried - before

    def perform(self, fraction: float, lasts: float) -> str:
        """Cut it off after that part of its bytes, for so many seconds at most; what came of it."""
        share = 0.0 if self.hand.command == _ALONE else fraction * self.bytes
        self._prepare()
        listed, kept = self._listed(), self._directories()
        after = self.machine.carried + share
        process = self._start()
        if self.hand.command == _ALONE:
            self._wait_for_member(process, _member(fraction))
        while self.machine.carried < after and process.poll() is None:
            time.sleep(0.001)
        assert process.poll() is None, "it ended before its network was cut"
        began = time.monotonic()
        with self.site.network.parted([self.hand.name], self.hand.far):
            try:
                process.wait(lasts)
            except subprocess.TimeoutExpired:
                if lasts != _PASSES:
                    process.kill()
                    raise
        done = self._ended(process, _BOUND)
        took = time.monotonic() - began
        self._check(done, listed, kept)
        self._make_up()
        return f"exit code {done.code} {took:.0f} s later" if done.code else "done"

    def _wait_for_member(self, process: subprocess.Popen[str], number: int) -> None:
        """Until it says that it defragments that one; what it says before is read here."""
        assert process.stderr is not None
        for line in process.stderr:
            number -= "defragmenting" in line
            if not number:
                return

    def _check(self, done: Done, listed: set[str], kept: dict[int, Path]) -> None:
        """What it said, and that nothing is lost or listed wrongly."""
        if done.code:
            assert done.code in _CUT_OFF, (done.code, done.err)
            error, hint = done.problem
            assert error, done.err
            assert hint, done.err
        now = self._listed()
        if self.hand.command == "prune":
            assert now, "everything is gone"
            assert now <= listed
        else:
            assert listed <= now
        standing = self._directories()
        if done.code:
            assert standing == kept, "a data directory has moved"
        assert set(kept) <= set(standing), "a data directory is gone"

    def _make_up(self) -> None:
        deadline = time.monotonic() + _LOCK_IS_FREE
        while (done := self._ended(self._start(), _BOUND)).code == 11 and time.monotonic() < deadline:
            time.sleep(1.0)  # the lock of the one that was cut off ends with its lease
        assert done.code == 0, done.err
        with self.machine.entered():
            assert all(one["outcome"] == "ok" for one in self.here.json("verify", "--all")["results"])
        assert Spool(self.here.spool).entries() == []
        if self.hand.command != "prune":
            assert chain_problems(self.catalog.list()) == []

    def _prepare(self) -> None:
        """So that there is something to do."""
        if self.hand.command == "defrag":
            with AdminClient(ConnectionOptions(self.site.members.client_urls)) as client:
                fragment(self.site.members, client, 2 * DATABASE_BYTES, in_use=0.5)
        with self.machine.entered():
            for _ in range({"prune": 4, "backup": 0}.get(self.hand.command, 1)):
                self.here.backup()

    def _start(self) -> subprocess.Popen[str]:
        arguments: dict[str, Callable[[], list[str]]] = {
            "backup": lambda: ["backup"],
            "verify": lambda: ["verify", "latest", "--level", "data"],
            "prune": lambda: ["prune", "--confirm"],
            "defrag": lambda: ["defrag"],
            "restore": self._restore,
        }
        with self.machine.entered():
            quiet = [] if self.hand.command == _ALONE else ["-q"]
            return self.here.start(*arguments[self.hand.command](), *quiet)

    def _restore(self) -> list[str]:
        """Onto this machine, as if the others had been lost."""
        places = [f"--data-dir={name}={self.data / name}" for name in MEMBERS]
        moves = [
            f"--map={self.site.network[name].address}=127.0.0.{number}"
            for number, name in enumerate(MEMBERS, start=1)
        ]
        return ["restore", "latest", "--all", "--yes", "--i-know-quorum-is-alive", *places, *moves]

    def _ended(self, process: subprocess.Popen[str], seconds: float) -> Done:
        try:
            out, err = process.communicate(timeout=seconds)
        finally:
            process.kill()
        return Done(process.returncode, out, err)

    def _listed(self) -> set[str]:
        listing = self.catalog.list()
        assert listing.problems == (), listing.problems
        assert all(backup.signature == "valid" for backup in listing.backups)
        return {backup.id for backup in listing.backups}

    def _directories(self) -> dict[int, Path]:
        """Data directories, old and new, by inode."""
        return {path.stat().st_ino: path for path in self.data.iterdir()}
