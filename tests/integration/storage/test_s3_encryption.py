"""Encryption by the store itself, on a server that does it: asked for on every write, seen on its disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from etcdguard.storage.s3 import S3Store
from tests.support.s3_servers import S3Server, make_bucket, seaweedfs

_PLAIN = b"the plain text of an object "
_PART_BYTES = 6 * 1024 * 1024


@dataclass(frozen=True)
class Site:
    server: S3Server
    data: Path

    def store(self, sse: Literal["AES256", "aws:kms"] | None, kms_key_id: str | None = None) -> S3Store:
        options = replace(self.server.options(make_bucket(self.server)), sse=sse, sse_kms_key_id=kms_key_id)
        return S3Store(options, session=self.server.session())

    def seen(self, store: S3Store, key: str) -> tuple[Any, Any]:
        """What the server says of an object."""
        bucket = store._bucket.options.bucket
        answer = self.server.client().head_object(Bucket=bucket, Key=key)
        return answer.get("ServerSideEncryption"), answer.get("SSEKMSKeyId")

    def on_disk(self, text: bytes) -> bool:
        return any(text in path.read_bytes() for path in self.data.rglob("*.dat"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("encrypting")
    with seaweedfs(folder) as server:
        yield Site(server, folder / "data")


@pytest.mark.parametrize(
    ("sse", "kms_key_id"), [("AES256", None), ("aws:kms", "backups"), (None, None)], ids=str
)
def test_what_is_written_is_encrypted_as_configured(
    site: Site, sse: Literal["AES256", "aws:kms"] | None, kms_key_id: str | None
) -> None:
    store = site.store(sse, kms_key_id)
    text = _PLAIN + repr(sse).encode()
    parts = {1: text + b"." * (_PART_BYTES - len(text)), 2: text}

    store.put("small", text)
    store.put("once", text, create_only=True)
    writer = store.multipart("large")
    for number, part in parts.items():
        writer.write_part(number, part)
    writer.complete()

    for key in ("small", "once", "large"):
        assert site.seen(store, key) == (sse, kms_key_id)
    assert b"".join(store.get("small")) == text
    assert b"".join(store.get("large")) == parts[1] + parts[2]
    assert b"".join(store.get("large", offset=_PART_BYTES, length=4)) == text[:4]
    assert site.on_disk(text) == (sse is None)  # so that not finding it means something
