"""Prove that a backup is what its manifest says, as deep as asked.

``manifest``: signature, place in the chain, every object there with its size.
``data``: also every byte: stored sha256, age, zstd, trailer, and a walk of the bbolt trees (reachable pages,
key order, key count, revision), streaming, so that no plaintext touches the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from etcdguard.catalog.catalog import Backup, Catalog
from etcdguard.catalog.chain import link_problem
from etcdguard.crypto.recipients import Identity
from etcdguard.errors import Corruption, ObjectNotFound
from etcdguard.etcd.page_index import PageIndex
from etcdguard.fetch import open_plain
from etcdguard.model import Manifest
from etcdguard.progress import Progress

__all__ = ["Level", "VerifyResult", "Verifier"]

Level = Literal["manifest", "data"]


@dataclass(frozen=True)
class VerifyResult:
    """One backup at one level; sound when ``problems`` is empty."""

    id: str
    level: Level
    problems: tuple[str, ...]

    @property
    def outcome(self) -> Literal["ok", "failed"]:
        """What scripts read."""
        return "failed" if self.problems else "ok"


class Verifier:
    """Verifies backups of one catalog. ``identities`` are needed for level ``data`` only."""

    def __init__(
        self, catalog: Catalog, identities: Callable[[], Sequence[Identity]], progress: Progress
    ) -> None:
        self._catalog = catalog
        self._identities = identities
        self._progress = progress

    def one(self, reference: str, level: Level) -> list[VerifyResult]:
        """Verify ``latest`` or the backup of that id, damaged or not; raises ObjectNotFound."""
        raws = {backup.id: backup.raw for backup in self._catalog.list().backups}
        try:
            backup = self._catalog.resolve(reference)
        except Corruption as error:
            return [VerifyResult(reference, level, (error.message,))]
        return [self._verify(backup, level, raws)]

    def every(self, level: Level) -> list[VerifyResult]:
        """Verify every backup of the catalog, oldest first, damaged manifests included.

        Raises ObjectNotFound when there is none: whoever verifies daily must notice that.
        """
        listing = self._catalog.list()
        if not listing.backups and not listing.problems:
            raise self._catalog.none_there()
        raws = {backup.id: backup.raw for backup in listing.backups}
        results = [VerifyResult(problem.id, level, (problem.error.message,)) for problem in listing.problems]
        results += [self._verify(backup, level, raws) for backup in listing.backups]
        return sorted(results, key=lambda result: result.id)

    def _verify(self, backup: Backup, level: Level, raws: Mapping[str, bytes]) -> VerifyResult:
        problems = [*self._manifest_problems(backup, raws)]
        if level == "data":
            problems += self._data_problems(backup.manifest)
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

    def _data_problems(self, manifest: Manifest) -> Sequence[str]:
        """What reading every byte shows; a wrong key is the reader's fault and is raised (WrongKey)."""
        index = PageIndex(check_order=True, budget=256 * 1024 * 1024)
        self._progress.phase("verify", manifest.snapshot.db_bytes)
        try:
            for piece in open_plain(self._catalog.store, self._catalog.layout, manifest, self._identities()):
                index.update(piece)
                self._progress.advance(len(piece))
            pages = index.finish(manifest.snapshot.db_bytes)
        except ObjectNotFound:
            return []  # already named by the manifest level
        except Corruption as error:
            return [error.message]
        finally:
            self._progress.done()
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
