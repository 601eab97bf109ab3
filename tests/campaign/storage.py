"""``python -m tests.campaign.storage``: every request that a command makes of a repository, and every fault.

Which requests there are is not written down here: each command is run once without faults, and what it asked
of the store is what is made to fail, once and for good.
"""

from __future__ import annotations

import argparse
import logging
import random
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import structlog

from etcdguard import __version__
from etcdguard.errors import EtcdGuardError
from etcdguard.hold import Keeper
from etcdguard.progress import NoProgress
from etcdguard.prune import Limits, Pruner
from etcdguard.retention import Policy
from etcdguard.storage.base import RepositoryStore
from etcdguard.storage.retry import RetryingStore, RetryPolicy
from etcdguard.storage.s3 import S3Options, S3Store
from etcdguard.verify import Verifier
from tests.support.backups import IDENTITY, SIGNER, Node, catalog_of, chain_problems, database, plaintext
from tests.support.bolt_writer import with_trailer
from tests.support.fake_source import FakeSource
from tests.support.http_faults import FaultProxy, HttpFault, fault_proxy, read_timeout
from tests.support.s3_servers import S3Server, make_bucket, seaweedfs

__all__ = ["COMMANDS", "Combination", "Laboratory", "laboratory"]

Often = Literal["once", "always"]

GONE, HELD, VERIFIED, NEWEST, NEXT, LAST = (7, 8), 9, 10, 11, 12, 13
"""Revisions: what a prune lets go of, what it must keep and why, what a backup adds, and what follows."""

_ALWAYS = 10**6
_QUICK = RetryPolicy(attempts=4, first_delay=0.01)
_EXIT_CODES = {1, 2, 3, 10, 11, 12, 13, 14, 15}
_PASSING = {
    HttpFault.INTERNAL_ERROR, HttpFault.SLOW_DOWN, HttpFault.RESET, HttpFault.LOST_ACK, HttpFault.DELAY,
    HttpFault.CUT_BODY,
}  # fmt: skip
"""What a second attempt gets over."""

_UNSEEN = (HttpFault.STALE, HttpFault.FLIPPED_ANSWER)

_NOUNS = (
    ("/holds/", "hold"),
    ("/slots/", "slot"),
    ("snapshot.db", "snapshot"),
    ("manifest.json.sig", "signature"),
    ("manifest.json", "manifest"),
    (".json.sig", "event's signature"),
    ("/events/", "event"),
)
_VERBS = {"GET": "read", "HEAD": "look at", "PUT": "write", "DELETE": "delete"}


def request_kind(method: str, path: str) -> str:
    """What a request is about, in words."""
    parts = urlsplit(path)
    query = parse_qs(parts.query, keep_blank_values=True)
    if "list-type" in query:
        prefix = query.get("prefix", [""])[0]
        return f"list {prefix.split('/')[3]}" if prefix.count("/") > 2 else "ask the time"
    if "uploads" in query:
        return "list uploads" if method == "GET" else "begin upload"
    if "uploadId" in query:
        return {"PUT": "write part", "POST": "complete upload", "DELETE": "abort upload"}[method]
    return f"{_VERBS[method]} {next(noun for mark, noun in _NOUNS if mark in parts.path)}"


def _faults_of(kind: str) -> tuple[HttpFault, ...]:
    """Those that can happen to such a request."""
    found = [
        *(HttpFault.DELAY, HttpFault.RESET, HttpFault.INTERNAL_ERROR, HttpFault.SLOW_DOWN, HttpFault.DENIED),
        HttpFault.SLOW,
    ]
    verb = kind.split(" ")[0]
    if verb in ("write", "delete", "begin", "complete", "abort"):
        found.append(HttpFault.LOST_ACK)
    if verb in ("write", "complete"):
        found.append(HttpFault.FLIPPED_REQUEST)
    if verb in ("list", "read"):
        found += [HttpFault.CUT_BODY, HttpFault.FLIPPED_ANSWER]
    if verb == "list":
        found.append(HttpFault.STALE)
    return tuple(found)


@dataclass(frozen=True)
class Combination:
    """A command, one kind of its requests, and what happens to the first of them or to all."""

    command: str
    request: str
    fault: HttpFault
    often: Often

    def __str__(self) -> str:
        return f"{self.command}, {self.request}, {self.fault.name.lower()}, {self.often}"


class World:
    """A repository of its own in a shared bucket; ``near`` goes to the server, ``far`` through the proxy."""

    def __init__(
        self, server: S3Server, options: S3Options, proxy: FaultProxy, fault: HttpFault | None, node: Node
    ) -> None:
        through = replace(options, endpoint_url=proxy.endpoint_url, read_timeout=read_timeout(fault))
        self.near = S3Store(options, session=server.session())
        self.far = RetryingStore(S3Store(through, session=server.session()), _QUICK, rng=random.Random(1))
        self.node = node
        self.value_bytes = 300
        self.proxy = proxy
        for revision in (*GONE, HELD, VERIFIED):
            self.backup(revision)
        catalog = catalog_of(self.near)
        ids = {one.manifest.snapshot.revision: one.id for one in catalog.list().backups}
        now = datetime.now(timezone.utc)
        Keeper(catalog, SIGNER).add(ids[HELD], "campaign", at=now, actor="campaign")
        facts = {"results": [{"id": ids[VERIFIED], "level": "data", "outcome": "ok"}]}
        catalog.trail.record("verify", facts, at=now, actor="campaign", signer=SIGNER)
        proxy.memory.clear()
        proxy.remembers = True
        COMMANDS["prune, planned"](self)
        proxy.remembers = False
        self.backup(NEWEST)

    def backup(self, revision: int, store: RepositoryStore | None = None) -> None:
        source = FakeSource(self._database(revision))
        report = self.node.run(source, store or self.near)
        for error in report.failed.values():
            raise error

    def _database(self, revision: int) -> bytes:
        return database(revision, value_bytes=self.value_bytes if revision == NEXT else 300)

    def revisions(self) -> list[int]:
        """Of all that is listed, each proven to be the snapshot that was taken."""
        listing = catalog_of(self.near).list()
        assert listing.problems == (), listing.problems
        for backup in listing.backups:
            assert backup.signature == "valid", backup.id
            taken = with_trailer(self._database(backup.manifest.snapshot.revision))
            assert plaintext(self.near, backup.manifest) == taken, f"{backup.id} is another snapshot"
        return [backup.manifest.snapshot.revision for backup in listing.backups]

    def prune(self, store: RepositoryStore) -> Pruner:
        catalog = catalog_of(store)

        def record(facts: Any) -> None:
            now = datetime.now(timezone.utc)
            catalog.trail.record("prune", facts, at=now, actor="campaign", signer=SIGNER)

        limits = Limits(max_fraction=0.5)
        return Pruner(catalog, store, Policy(keep_last=1), must_be_signed=True, record=record, limits=limits)


def _backup(world: World) -> str:
    world.backup(NEXT, world.far)
    return "done"


def _backup_in_parts(world: World) -> str:
    world.value_bytes = 700_000
    return _backup(world)


def _list(world: World) -> str:
    listing = catalog_of(world.far).list()
    truth = {one.id: one.raw for one in catalog_of(world.near).list().backups}
    for one in listing.backups:
        assert one.signature != "valid" or truth.get(one.id) == one.raw, f"{one.id} is not what was stored"
    sound = sum(one.signature == "valid" for one in listing.backups)
    return "done" if sound == len(truth) else f"{sound} of {len(truth)} sound"


def _verify(world: World) -> str:
    verifier = Verifier(catalog_of(world.far), lambda: [IDENTITY], NoProgress())
    results = verifier.every("data")
    bad = [result for result in results if result.problems]
    if bad:
        return f"13: {re.sub(r'[0-9]{8}T[^ /]*', 'ID', bad[0].problems[0])}"
    return "done" if len(results) == len(GONE) + 3 else f"{len(results)} of {len(GONE) + 3} seen, all sound"


def _planned(world: World) -> str:
    world.prune(world.far).plan(datetime.now(timezone.utc))
    return "done"


def _prune(world: World) -> str:
    pruner = world.prune(world.far)
    now = datetime.now(timezone.utc)
    result = pruner.execute(pruner.plan(now), now)
    for error in result.failed.values():
        raise error
    return "done" if len(result.removed) == len(GONE) else f"{len(result.removed)} of {len(GONE)} removed"


def _stage(world: World) -> str:
    backup = catalog_of(world.far).resolve("latest")
    content = plaintext(world.far, backup.manifest)
    revision = backup.manifest.snapshot.revision
    assert content == with_trailer(database(revision)), "another snapshot was handed out"
    return "done" if revision == NEWEST else f"revision {revision} instead of {NEWEST}"


COMMANDS: dict[str, Callable[[World], str]] = {
    "backup": _backup,
    "backup, in parts": _backup_in_parts,
    "list": _list,
    "verify": _verify,
    "prune, planned": _planned,
    "prune": _prune,
    "restore, stage": _stage,
}
"""What each does through the proxy. It answers ``done``, or in what it fell short without an error."""

_BACKUPS = ("backup", "backup, in parts")


class Laboratory:
    """One server and one proxy for many combinations; see ``laboratory``."""

    def __init__(self, folder: Path, server: S3Server, proxy: FaultProxy) -> None:
        self._folder = folder
        self._server = server
        self._proxy = proxy
        self._bucket = make_bucket(server)
        self._count = 0

    def combinations(self) -> list[Combination]:
        """All of them, in the order in which the commands ask; a kind of request once for each command."""
        found: list[Combination] = []
        for command in COMMANDS:
            known = {one.request for one in found if one.command == "backup"}
            for kind in self._kinds(command):
                if command == "backup, in parts" and kind in known:
                    continue
                found += [
                    Combination(command, kind, fault, often)
                    for fault in _faults_of(kind)
                    for often in ("once", "always")
                ]
        return found

    def perform(self, combination: Combination) -> str:
        """What the command said; raises AssertionError where anything was lost, or is listed wrongly."""
        world = self._world(combination.fault)
        times = 1 if combination.often == "once" else _ALWAYS
        self._proxy.plan_for(
            combination.fault,
            lambda method, path: request_kind(method, path) == combination.request,
            times=times,
        )
        said, error = "", None
        try:
            said = COMMANDS[combination.command](world)
        except EtcdGuardError as caught:
            error = caught
        finally:
            met = self._proxy.unmet < times
            self._proxy.recover()
        if error is not None:
            assert error.exit_code in _EXIT_CODES, error
            assert error.message, error
            assert error.hint, error
            said = f"{error.exit_code}: {type(error).__name__}"
        if combination.often == "once" and combination.fault in _PASSING:
            assert said == "done", error or said
        assert met, "no request met the fault"
        self._assert_nothing_is_lost(world, combination, said)
        return said

    def _assert_nothing_is_lost(self, world: World, combination: Combination, said: str) -> None:
        before = [*GONE, HELD, VERIFIED, NEWEST]
        listed = world.revisions()
        if combination.command in _BACKUPS:
            assert [one for one in listed if one != NEXT] == before
            if said == "done":
                assert NEXT in listed
            before.append(NEXT)
        elif combination.command == "prune":
            assert set(before) - set(listed) <= set(GONE), listed
            world.prune(world.near).execute(world.prune(world.near).plan(_now()), _now())
            before = [HELD, VERIFIED, NEWEST]
        else:
            assert listed == before
        world.backup(LAST)
        assert world.revisions() == [*before, LAST]
        assert world.node.spool.entries() == []
        # A chain continues what could be read; only TLS tells that it was not what is stored.
        if combination.command != "prune" and combination.fault not in _UNSEEN:
            assert chain_problems(catalog_of(world.near).list()) == []

    def _kinds(self, command: str) -> list[str]:
        world = self._world()
        self._proxy.requests.clear()
        assert COMMANDS[command](world) == "done"
        asked = (request.partition(" ") for request in self._proxy.requests)
        return list(dict.fromkeys(request_kind(method, path) for method, _, path in asked))

    def _world(self, fault: HttpFault | None = None) -> World:
        self._count += 1
        name = f"{self._count:05d}"
        options = self._server.options(self._bucket, f"campaign/{name}")
        return World(self._server, options, self._proxy, fault, Node(self._folder / name))


def _now() -> datetime:
    return datetime.now(timezone.utc)


@contextmanager
def laboratory(folder: Path, server: S3Server) -> Iterator[Laboratory]:
    """Between a node and this server."""
    with fault_proxy(server.endpoint_url) as proxy:
        yield Laboratory(folder, server, proxy)


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Every fault at every request to an S3 server.")
    parser.add_argument("--only", default="", metavar="REGEX", help="combinations whose name matches")
    only = re.compile(parser.parse_args(arguments).only)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    failed = 0
    outcomes: dict[Combination, str] = {}
    with tempfile.TemporaryDirectory(prefix="etcdguard-campaign-") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with seaweedfs(folder / "server") as server, laboratory(folder, server) as here:
            wanted = [one for one in here.combinations() if only.search(str(one))]
            print(f"etcdguard {__version__}, {server.name}, {len(wanted)} combinations\n")
            print("| command | request | fault | how often | etcdguard said | s |\n|---|---|---|---|---|---|")
            for one in wanted:
                began = time.monotonic()
                try:
                    said = here.perform(one)
                except Exception:  # noqa: BLE001 - one failure is a row, and the others are still to come
                    failed += 1
                    said = "FAILED"
                    print(f"{one}\n{traceback.format_exc()}", file=sys.stderr)
                outcomes[one] = said
                cells = (one.command, one.request, one.fault.name.lower(), one.often, said)
                print(f"| {' | '.join(cells)} | {time.monotonic() - began:.1f} |", flush=True)
    print(f"\n{len(wanted) - failed} of {len(wanted)} lost nothing and list nothing wrong")
    _print_summary(outcomes)
    return 1 if failed else 0


def _print_summary(outcomes: Mapping[Combination, str]) -> None:
    """A row for each fault, a column for each command, and in a cell what all its requests came to."""
    print(f"\n| fault | how often | {' | '.join(COMMANDS)} |\n|---|---|{'---|' * len(COMMANDS)}")
    for fault, often in dict.fromkeys((one.fault, one.often) for one in outcomes):
        cells = []
        for command in COMMANDS:
            said = {
                re.sub("[:,].*|[0-9]+ of [0-9]+ (.*)", r"\1", what).strip()
                for one, what in outcomes.items()
                if (one.command, one.fault, one.often) == (command, fault, often)
            }
            cells.append(", ".join(sorted(said)) or "-")
        print(f"| {fault.name.lower().replace('_', ' ')} | {often} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
