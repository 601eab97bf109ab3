"""Prove that a backup is what its manifest says, as deep as asked.

``manifest``: signature, place in the chain, every object there with its size.
``data``: also every byte: stored sha256, age, zstd, trailer, and a walk of the bbolt trees (reachable pages,
key order, key count, revision), streaming, so that no plaintext touches the disk.

All backups of a repository may be hours of reading: several at once, at a pace, and what was found is told as
it is found, so that a run that is cut off can be taken up again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Literal

from etcdguard.catalog.catalog import Backup, Catalog
from etcdguard.catalog.chain import link_problem
from etcdguard.crypto.recipients import Identity
from etcdguard.errors import Corruption, ObjectNotFound, WrongKey
from etcdguard.etcd.page_index import PageIndex
from etcdguard.fetch import check_stored, open_plain
from etcdguard.model import Manifest
from etcdguard.pace import Pace
from etcdguard.progress import Progress

__all__ = ["Level", "Notes", "Verifier", "VerifyResult"]

Level = Literal["manifest", "data"]

_NOTE_SECONDS = 5.0
"""So much work may be lost when the process is killed, and a backup each thread is at."""
_NOTE_RESULTS = 2000
"""In one event, so that it stays far below the 1 MiB that readers allow."""


@dataclass(frozen=True)
class VerifyResult:
    """One backup at one level; sound when ``problems`` is empty and it was not ``passed_over``."""

    id: str
    level: Level
    problems: tuple[str, ...]
    passed_over: Literal["skipped", "unverifiable"] | None = None
    """Why its bytes were not proven: found sound lately, or none of the keys here opens it."""

    @property
    def outcome(self) -> Literal["ok", "failed", "skipped", "unverifiable"]:
        """What scripts read."""
        return self.passed_over or ("failed" if self.problems else "ok")


class Verifier:
    """Verifies backups of one catalog. ``identities`` are needed for level ``data`` only."""

    def __init__(
        self,
        catalog: Catalog,
        identities: Callable[[], Sequence[Identity]],
        progress: Progress,
        pace: Pace | None = None,
    ) -> None:
        self._catalog = catalog
        self._identities = identities
        self._progress = progress
        self._pace = pace or Pace()

    def one(self, reference: str, level: Level) -> list[VerifyResult]:
        """Verify ``latest`` or the backup of that id, damaged or not; raises ObjectNotFound and WrongKey."""
        raws = {backup.id: backup.raw for backup in self._catalog.list().backups}
        try:
            backup = self._catalog.resolve(reference)
        except Corruption as error:
            return [VerifyResult(reference, level, (error.message,))]
        problems = [*self._manifest_problems(backup, raws)]
        if level == "data":
            identities = self._identities()
            self._progress.phase("verify", backup.manifest.snapshot.db_bytes)
            try:
                problems += self._data_problems(backup.manifest, identities)
            finally:
                self._progress.done()
        return [VerifyResult(backup.id, level, tuple(problems))]

    def every(
        self,
        level: Level,
        *,
        found: Callable[[VerifyResult], object] = lambda result: None,
        sound_between: tuple[datetime, datetime] | None = None,
        parallel: int = 1,
    ) -> list[VerifyResult]:
        """Verify every backup of the catalog, damaged manifests included; the results are oldest first.

        The newest come first, ``parallel`` of them at once, each with memory of its own; ``found`` is told of
        each at once, in this thread. Of what was last found sound at this level in that time, no byte is read
        again, but signature, chain and sizes are looked at all the same.

        Raises ObjectNotFound when there is none: whoever verifies daily must notice that. WrongKey is for no
        key at all; a backup for other keys is a result.
        """
        listing = self._catalog.list()
        if not listing.backups and not listing.problems:
            raise self._catalog.none_there()
        results = [VerifyResult(problem.id, level, (problem.error.message,)) for problem in listing.problems]
        for result in results:
            found(result)
        raws = {backup.id: backup.raw for backup in listing.backups}
        lately = {
            backup.id
            for backup in listing.backups
            if sound_between is not None
            and (proof := backup.standing.proven(level)) is not None
            and sound_between[0] <= proof.at <= sound_between[1]
        }
        due = [backup for backup in listing.backups if level == "data" and backup.id not in lately]
        identities = self._identities() if due else ()
        self._progress.phase("verify", sum(backup.manifest.snapshot.db_bytes for backup in due))
        with ThreadPoolExecutor(parallel) as pool:
            try:
                futures = [
                    pool.submit(
                        self._examine, backup, level, raws, None if backup.id in lately else identities
                    )
                    for backup in reversed(listing.backups)
                ]
                for result in self._results(futures):
                    results.append(result)
                    found(result)
            except BaseException:
                self._pace.stop()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                self._progress.done()
        return sorted(results, key=lambda result: result.id)

    def _results(self, futures: Sequence[Future[VerifyResult]]) -> Iterator[VerifyResult]:
        """As they come. After an error no other is begun, and those that had ended are told before it."""
        failure: BaseException | None = None
        for future in as_completed(futures):
            if future.cancelled():
                continue
            error = future.exception()
            if error is None:
                yield future.result()
            elif failure is None:
                failure = error
                self._pace.stop()
                for other in futures:
                    other.cancel()
        if failure is not None:
            raise failure

    def _examine(
        self, backup: Backup, level: Level, raws: Mapping[str, bytes], identities: Sequence[Identity] | None
    ) -> VerifyResult:
        """``identities`` None: it was found sound lately."""
        problems = [*self._manifest_problems(backup, raws)]
        if identities is None:
            return VerifyResult(backup.id, level, tuple(problems), None if problems else "skipped")
        if level == "data":
            try:
                problems += self._data_problems(backup.manifest, identities)
            except WrongKey as error:
                problems += self._stored_problems(backup.manifest)
                if not problems:
                    return VerifyResult(backup.id, level, (error.message,), "unverifiable")
        return VerifyResult(backup.id, level, tuple(problems))

    def _manifest_problems(self, backup: Backup, raws: Mapping[str, bytes]) -> Sequence[str]:
        found = []
        if backup.signature == "missing":
            found.append("the manifest is not signed")
        elif backup.signature == "invalid":
            found.append("the manifest's signature is by no trusted signer, or the manifest was changed")
        broken = link_problem(backup.manifest, raws)
        if broken is not None:
            found.append(broken)
        for entry in backup.manifest.objects:
            try:
                size = self._catalog.store.head(self._catalog.layout.absolute(entry.key)).size
            except ObjectNotFound:
                found.append(f"{entry.key} is missing")
                continue
            if size != entry.bytes:
                found.append(f"{entry.key} has {size} bytes instead of {entry.bytes}")
        return found

    def _stored_problems(self, manifest: Manifest) -> Sequence[str]:
        """What shows without a key: damage to the file's header looks like somebody else's file."""
        try:
            check_stored(self._catalog.store, self._catalog.layout, manifest, pace=self._pace.take)
        except Corruption as error:
            return [error.message]
        return []

    def _data_problems(self, manifest: Manifest, identities: Sequence[Identity]) -> Sequence[str]:
        """What reading every byte shows; a wrong key is the reader's fault and is raised (WrongKey)."""
        index = PageIndex(check_order=True, budget=256 * 1024 * 1024)
        store, layout = self._catalog.store, self._catalog.layout
        try:
            for piece in open_plain(store, layout, manifest, identities, pace=self._pace.take):
                index.update(piece)
                self._progress.advance(len(piece))
            pages = index.finish(manifest.snapshot.db_bytes)
        except ObjectNotFound:
            return []  # already named by the manifest level
        except Corruption as error:
            return [error.message]
        facts, said = pages.facts, manifest.snapshot
        compared = (
            ("revision", facts.revision, said.revision),
            ("compact revision", facts.compact_revision, said.compact_revision),
            ("consistent index", facts.consistent_index, said.consistent_index),
            ("number of keys", pages.total_keys, said.total_keys),
        )
        return [
            f"the snapshot's {name} is {found}, the manifest says {expected}"
            for name, found, expected in compared
            if found != expected
        ]


class Notes:
    """Hands results to ``record`` by and by: every 5 s of work, or 2000 of them, and at the end.

    What was passed over is no finding. ``clock``: monotonic seconds.
    """

    def __init__(
        self, record: Callable[[Sequence[VerifyResult]], object], clock: Callable[[], float]
    ) -> None:
        self._record = record
        self._clock = clock
        self._pending: list[VerifyResult] = []
        self._recorded_at = clock()

    def __enter__(self) -> Notes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._flush()

    def add(self, result: VerifyResult) -> None:
        """One more."""
        if result.passed_over is None:
            self._pending.append(result)
        if len(self._pending) == _NOTE_RESULTS or self._clock() - self._recorded_at >= _NOTE_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._record(self._pending)
            self._pending = []
        self._recorded_at = self._clock()
