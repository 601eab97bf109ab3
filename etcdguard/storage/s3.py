"""A repository in an S3 bucket, on AWS or on any store that speaks its protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from etcdguard.errors import ObjectExists, ObjectNotFound, RepositoryError
from etcdguard.storage.arguments import PIECE_BYTES, check_key, check_prefix, check_range
from etcdguard.storage.base import Lock, ObjectInfo, StaleUpload
from etcdguard.storage.s3_bucket import Bucket, ObjectLock, S3Options
from etcdguard.storage.s3_errors import FOREIGN, code_of
from etcdguard.storage.s3_multipart import S3Multipart, abort_upload

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

__all__ = ["ObjectLock", "S3Options", "S3Store"]

_SMALL_BYTES = 2 * PIECE_BYTES
"""So much may be in memory at once."""


class S3Store:
    """Objects under ``options.prefix`` of one bucket. Retries nothing: wrap it in a RetryingStore.

    ``now`` is needed for an object lock in days. ``session`` replaces boto3's default credential chain.
    """

    def __init__(
        self,
        options: S3Options,
        *,
        session: boto3.Session | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.name = options.name
        self._bucket = Bucket(options, session, now)
        self._client = self._bucket.client

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """See ObjectStore."""
        check_key(key)
        condition: dict[str, Any] = {}
        if create_only and self._bucket.options.conditional_writes == "required":
            condition = {"IfNoneMatch": "*"}
        elif create_only:
            self._require_absent(key)
        with self._bucket.translating("write", key):
            answer = self._client.put_object(
                Bucket=self._bucket.options.bucket,
                Key=self._bucket.path(key),
                Body=data,
                **self._bucket.write_settings(),
                **self._bucket.integrity(data),
                **condition,
            )
        self._bucket.field(answer, "ETag", "write", key)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ObjectStore."""
        check_key(key)
        check_range(offset, length)
        if length == 0:
            self.head(key)  # S3 has no empty ranges, but a missing object must still be told
            return
        if offset == 0 and length is not None and length <= _SMALL_BYTES:
            data = self._bucket.quick.read(self._bucket.path(key), length)
            if data is not None:
                yield from (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
                return
        response = self._request(key, offset, length)
        if response is None:
            return
        with closing(response["Body"]) as body:
            while True:
                with self._bucket.translating("read", key):
                    piece = body.read(PIECE_BYTES)  # raises when the body ends before its Content-Length
                if not piece:
                    return
                yield piece

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        check_key(key)
        with self._bucket.translating("read", key):
            response = self._client.head_object(
                Bucket=self._bucket.options.bucket, Key=self._bucket.path(key)
            )
        return ObjectInfo(key, response["ContentLength"], response.get("LastModified"))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. Read to the end and sorted here: not every store lists in key order."""
        check_prefix(prefix)
        found = []
        with self._bucket.translating("list", prefix or "/"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket.options.bucket, Prefix=self._bucket.path(prefix)
            )
            for page in pages:
                if self._bucket.field(page, "IsTruncated", "list", prefix or "/"):
                    self._bucket.field(page, "NextContinuationToken", "list", prefix or "/")
                found += [
                    ObjectInfo(self._bucket.key(entry["Key"]), entry["Size"], entry.get("LastModified"))
                    for entry in page.get("Contents", [])
                    if not entry["Key"].endswith("/")  # folder markers, as S3 consoles leave them
                ]
        return iter(sorted(found, key=lambda info: info.key))

    def folders(self, prefix: str) -> Sequence[str]:
        """See Surveyor."""
        check_prefix(prefix)
        found: list[str] = []
        with self._bucket.translating("list", prefix or "/"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket.options.bucket, Prefix=self._bucket.path(prefix), Delimiter="/"
            )
            for page in pages:
                if self._bucket.field(page, "IsTruncated", "list", prefix or "/"):
                    self._bucket.field(page, "NextContinuationToken", "list", prefix or "/")
                found += [entry["Prefix"] for entry in page.get("CommonPrefixes", [])]
        return sorted(self._bucket.key(path)[len(prefix) : -1] for path in found)

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        check_key(key)
        try:
            with self._bucket.translating("delete", key):
                self._client.delete_object(Bucket=self._bucket.options.bucket, Key=self._bucket.path(key))
        except ObjectNotFound:
            return  # S3 says success; a store that says 404 instead means the same

    def multipart(self, key: str) -> S3Multipart:
        """See ObjectStore."""
        return S3Multipart(self._bucket, check_key(key))

    def stale_uploads(self, prefix: str) -> Sequence[StaleUpload]:
        """See UploadJanitor."""
        check_prefix(prefix)
        with self._bucket.translating("list the uploads of", prefix or "/"):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket.options.bucket, Prefix=self._bucket.path(prefix)
            )
            found = []
            for page in pages:
                if self._bucket.field(page, "IsTruncated", "list the uploads of", prefix or "/"):
                    self._bucket.field(page, "NextKeyMarker", "list the uploads of", prefix or "/")
                found += page.get("Uploads", [])
        return [
            StaleUpload(
                self._bucket.key(each["Key"]), each["UploadId"], each["Initiated"].astimezone(timezone.utc)
            )
            for each in found
        ]

    def lock(self, key: str) -> Lock | None:
        """See Custodian. S3 shows locks only to those who may read them (s3:GetObjectRetention)."""
        check_key(key)
        with self._bucket.translating("read the lock of", key):
            response = self._client.head_object(
                Bucket=self._bucket.options.bucket, Key=self._bucket.path(key)
            )
        until = response.get("ObjectLockRetainUntilDate")
        if response.get("ObjectLockLegalHoldStatus") == "ON":
            until = datetime.max.replace(tzinfo=timezone.utc)
        return None if until is None else Lock(until, response.get("ObjectLockMode"))

    def time(self) -> datetime | None:
        """See Custodian. Every HTTP answer is dated."""
        with self._bucket.translating("ask the time of", "the store"):
            answer = self._client.list_objects_v2(Bucket=self._bucket.options.bucket, MaxKeys=1)
        return parsedate_to_datetime(
            self._bucket.field(
                answer["ResponseMetadata"]["HTTPHeaders"], "date", "ask the time of", "the store"
            )
        )

    def abort_upload(self, upload: StaleUpload) -> None:
        """See UploadJanitor."""
        abort_upload(self._bucket, upload.key, upload.upload_id)

    def _request(self, key: str, offset: int, length: int | None) -> GetObjectOutputTypeDef | None:
        """Begin a download; None when the range begins at or beyond the end of the object."""
        wanted: dict[str, Any] = {}
        if offset > 0 or length is not None:
            wanted = {"Range": f"bytes={offset}-{'' if length is None else offset + length - 1}"}
        with self._bucket.translating("read", key):
            try:
                response = self._client.get_object(
                    Bucket=self._bucket.options.bucket,
                    Key=self._bucket.path(key),
                    **wanted,
                )
            except FOREIGN as e:
                if code_of(e) in ("InvalidRange", "416"):
                    return None
                raise
        if wanted and not response.get("ContentRange", "").startswith(f"bytes {offset}-"):
            response["Body"].close()
            raise RepositoryError(
                f"repository {self.name}: the store did not honour the range asked of {key}",
                hint="run 'etcdguard check repository' to see what this store supports",
            )
        return response

    def _require_absent(self, key: str) -> None:
        try:
            self.head(key)
        except ObjectNotFound:
            return
        raise ObjectExists(
            f"repository {self.name}: {key} already exists",
            hint="another writer was first; nothing was changed",
        )
