"""Backups written into a store in memory the way ``backup`` does it, without its pipeline."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from etcdguard.catalog import Catalog, encode_manifest
from etcdguard.catalog.chain import next_position
from etcdguard.crypto.signing import SigningKey
from etcdguard.model import Manifest, ObjectEntry
from etcdguard.storage.memory import MemoryStore
from tests.support.backups import CLUSTER, SIGNER, START, TRUSTED
from tests.support.restores import make_manifest

__all__ = ["Repository"]


@dataclass
class Repository:
    """``add`` puts one backup after the other, each in its place of the chain."""

    store: MemoryStore = field(default_factory=lambda: MemoryStore("m"))

    @property
    def catalog(self) -> Catalog:
        return Catalog(self.store, CLUSTER, TRUSTED)

    def manifest(self, revision: int, *, cluster_id: str = "cafe", **changes: Any) -> Manifest:
        """The manifest a new backup would get."""
        links = self.catalog.links()
        position = next_position(links, cluster_id)
        taken_at = START + timedelta(hours=len(links))
        backup_id = f"{taken_at:%Y%m%dT%H%M%SZ}-r{revision:020d}-{len(links):08x}"
        body = self.body(backup_id)
        entry = ObjectEntry(
            key=f"backups/{backup_id}/snapshot.db.zst.age",
            bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )
        made = make_manifest(cluster_id=cluster_id, revision=revision)
        placed = {
            "id": backup_id,
            "objects": (entry,),
            "created_at": taken_at,
            **dataclasses.asdict(position),
        }
        return made.model_copy(update={**placed, "previous": position.previous, **changes})

    @staticmethod
    def body(backup_id: str) -> bytes:
        return f"ciphertext of {backup_id}".encode()

    def add(
        self, revision: int, *, signer: SigningKey | None = SIGNER, cluster_id: str = "cafe", **changes: Any
    ) -> Manifest:
        """Store object, signature and manifest."""
        manifest = self.manifest(revision, cluster_id=cluster_id, **changes)
        self.store.put(self.object_key(manifest), self.body(manifest.id))
        raw = encode_manifest(manifest)
        self.catalog.commit(manifest.id, raw, None if signer is None else signer.sign(raw))
        return manifest

    def object_key(self, manifest: Manifest) -> str:
        return self.catalog.layout.absolute(f"backups/{manifest.id}/snapshot.db.zst.age")
