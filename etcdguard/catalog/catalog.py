"""Manifests over an object store: commit, list, get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Literal

from etcdguard.catalog.chain import Link
from etcdguard.catalog.codec import decode_manifest
from etcdguard.catalog.layout import Layout
from etcdguard.catalog.ledger import Ledger
from etcdguard.catalog.reading import PARALLEL_READS, read_small
from etcdguard.catalog.standing import Standing, Verified
from etcdguard.catalog.trail import Trail
from etcdguard.crypto.signing import TrustedSigners
from etcdguard.errors import (
    Corruption,
    EtcdGuardError,
    ObjectExists,
    ObjectNotFound,
    Refused,
    UnsupportedFormat,
    UsageError,
)
from etcdguard.model import BackupId, Manifest
from etcdguard.storage.base import ObjectStore

__all__ = ["Backup", "Catalog", "Listing", "Problem", "Signature", "check_sizes"]

Signature = Literal["valid", "missing", "invalid"]
"""``invalid`` covers a signature by nobody we trust: nothing tells the two apart."""

_HINT = "restore from another backup or repository; 'etcdguard verify --all' shows which are sound"


@dataclass(frozen=True)
class Backup:
    """One backup: manifest, its exact bytes, and what stands beside it."""

    manifest: Manifest
    raw: bytes = field(repr=False)
    signature: Signature
    signer: str | None
    """Fingerprint of the trusted signer; None unless ``signature`` is ``valid``."""
    held: bool = False
    standing: Standing[Verified] = field(default_factory=Standing)

    @property
    def verified(self) -> Verified | None:
        """The deepest level at which it was found sound since it last failed."""
        return self.standing.sound

    @property
    def id(self) -> str:
        """The backup's id."""
        return self.manifest.id

    def require_trusted(self) -> None:
        """Raise Refused for a missing signature and Corruption for one that nobody we trust has made."""
        hint = "add the key that signed it to signing.trusted_signers, or pass --allow-unsigned"
        if self.signature == "missing":
            raise Refused(f"backup {self.id} is not signed", hint=hint)
        if self.signature == "invalid":
            raise Corruption(f"backup {self.id} is not signed by anyone trusted here", hint=hint)


@dataclass(frozen=True)
class Problem:
    """A manifest that is there but cannot be listed, and why."""

    id: str
    error: EtcdGuardError


@dataclass(frozen=True)
class Listing:
    """``backups`` from oldest to newest in restore order; ``problems`` are never restorable."""

    backups: tuple[Backup, ...]
    problems: tuple[Problem, ...]


class Catalog:
    """The backups of one cluster in one repository.

    Everything starts from manifests: an object without one does not exist for any reader. A failing LIST or
    GET raises; it is never taken for an empty repository.
    """

    def __init__(self, store: ObjectStore, cluster: str, trusted: TrustedSigners) -> None:
        self.store = store
        self.cluster = cluster
        self.layout = Layout(cluster)
        self.trail = Trail(store, self.layout, trusted)
        self.ledger = Ledger(store, self.layout)
        self._trusted = trusted

    def list(self) -> Listing:
        """Every backup whose manifest is sound and whose objects are all there with the size it names."""
        files = self._files()
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            found = list(pool.map(self._examine, files, files.values()))
        backups = self._with_standing(entry for entry in found if isinstance(entry, Backup))
        in_order = sorted(backups, key=lambda backup: (*backup.manifest.order, backup.id))
        return Listing(tuple(in_order), tuple(entry for entry in found if isinstance(entry, Problem)))

    def recent(self, count: int) -> tuple[Backup, ...]:
        """Of the newest ``count`` those whose manifest is sound, in restore order; no object is looked at."""
        names = sorted(self._files())[-count:]  # an id begins with its time
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            found = [one for one in pool.map(self._read_or_problem, names) if isinstance(one, Backup)]
        return tuple(sorted(found, key=lambda backup: (*backup.manifest.order, backup.id)))

    def links(self) -> tuple[Link, ...]:
        """Every readable manifest, for finding the end of the chain; who signed it does not matter there."""

        def link(backup_id: str) -> Link | None:
            try:
                return Link(*self._manifest(backup_id))
            except (ObjectNotFound, Corruption, UnsupportedFormat):
                return None

        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return tuple(found for found in pool.map(link, self._files()) if found is not None)

    def get(self, backup_id: str) -> Backup:
        """One backup by id; raises UsageError, ObjectNotFound, Corruption or UnsupportedFormat."""
        try:
            BackupId.parse(backup_id)
        except ValueError as error:
            raise UsageError(f"{backup_id!r} is not a backup id", hint="see 'etcdguard list'") from error
        manifest, raw = self._manifest(backup_id)
        try:
            signature = read_small(self.store, self.layout.signature(backup_id))
        except ObjectNotFound:
            return Backup(manifest, raw, "missing", None)
        signer = self._trusted.check(raw, signature)
        return Backup(manifest, raw, "valid" if signer else "invalid", signer)

    def resolve(self, reference: str) -> Backup:
        """The backup of that id; ``latest`` is the newest in restore order. Raises ObjectNotFound if none."""
        if reference != "latest":
            return self._with_standing([self.get(reference)])[0]
        listing = self.list()
        if listing.backups:
            return listing.backups[-1]
        if listing.problems:
            raise listing.problems[-1].error
        raise self.none_there()

    def none_there(self) -> ObjectNotFound:
        """The error of a repository that has no backup at all."""
        return ObjectNotFound(
            f"no backup of cluster {self.cluster} in repository {self.store.name}",
            hint="check cluster.name and the repository with 'etcdguard check repository'",
        )

    def commit(self, backup_id: str, raw: bytes, signature: bytes | None) -> None:
        """Write signature, then manifest: from here on the backup exists. Repeating it is harmless."""
        if signature is not None:
            self._create(self.layout.signature(backup_id), signature)
        self._create(self.layout.manifest(backup_id), raw)

    def _create(self, key: str, data: bytes) -> None:
        try:
            self.store.put(key, data, create_only=True)
        except ObjectExists as error:
            if read_small(self.store, key) != data:
                raise Corruption(
                    f"repository {self.store.name} already holds another {key}",
                    hint="nothing was overwritten; run 'etcdguard verify --all'",
                ) from error

    def _manifest(self, backup_id: str) -> tuple[Manifest, bytes]:
        try:
            raw = read_small(self.store, self.layout.manifest(backup_id))
        except ObjectNotFound as error:
            message = f"no backup {backup_id} of cluster {self.cluster} in repository {self.store.name}"
            raise ObjectNotFound(message, hint="see 'etcdguard list'") from error
        manifest = decode_manifest(raw, backup_id)
        if manifest.cluster.name != self.cluster:
            message = f"the manifest of {backup_id} is of cluster {manifest.cluster.name!r}"
            raise Corruption(f"{message}, not of {self.cluster!r}", hint=_HINT)
        return manifest, raw

    def _with_standing(self, backups: Iterable[Backup]) -> tuple[Backup, ...]:
        """The backups with what stands beside their manifests: holds, and what verification found."""
        held = {self.layout.held_id(info.key) for info in self.store.list(self.layout.holds)}
        standing = self.trail.standing()
        return tuple(
            replace(backup, held=backup.id in held, standing=standing.get(backup.id, Standing()))
            for backup in backups
        )

    def _files(self) -> dict[str, dict[str, int]]:
        """Backup id to its objects' keys and sizes, for every backup that has a manifest."""
        files: dict[str, dict[str, int]] = {}
        for info in self.store.list(self.layout.backups):
            backup_id = self.layout.backup_of(info.key)
            if backup_id is not None:
                files.setdefault(backup_id, {})[info.key] = info.size
        return {name: sizes for name, sizes in files.items() if self.layout.manifest(name) in sizes}

    def _examine(self, backup_id: str, sizes: Mapping[str, int]) -> Backup | Problem | None:
        found = self._read_or_problem(backup_id)
        if isinstance(found, Backup):
            try:
                check_sizes(self.layout, found.manifest, sizes)
            except Corruption as error:
                return Problem(backup_id, error)
        return found

    def _read_or_problem(self, backup_id: str) -> Backup | Problem | None:
        try:
            return self.get(backup_id)
        except ObjectNotFound:
            return None  # deleted since it was listed
        except (Corruption, UnsupportedFormat) as error:
            return Problem(backup_id, error)


def keys_of(layout: Layout, manifest: Manifest) -> tuple[str, ...]:
    """All that a backup consists of, its manifest first: without that it is no longer listed by anybody."""
    objects = (layout.absolute(entry.key) for entry in manifest.objects)
    return (layout.manifest(manifest.id), *objects, layout.signature(manifest.id))


def check_sizes(layout: Layout, manifest: Manifest, sizes: Mapping[str, int]) -> None:
    """Raise Corruption unless every object the manifest names is there with that size."""
    for entry in manifest.objects:
        size = sizes.get(layout.absolute(entry.key))
        if size is None:
            raise Corruption(f"{entry.key} is missing", hint=_HINT)
        if size != entry.bytes:
            raise Corruption(f"{entry.key} has {size} bytes instead of {entry.bytes}", hint=_HINT)
