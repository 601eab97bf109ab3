"""One bucket of one S3 store, as configured: the boto3 client and what goes with every request."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import boto3
from botocore.config import Config
from botocore.utils import parse_timestamp

from etcdguard.clock import instant
from etcdguard.errors import ObjectNotFound, RepositoryError, StoreUnavailable
from etcdguard.storage.s3_errors import FOREIGN, code_of, translate
from etcdguard.storage.s3_quick import QuickReader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket", "ObjectLock", "S3Options"]


@dataclass(frozen=True)
class ObjectLock:
    """Retention put on every object: until a moment, or for a number of days from when it is written."""

    mode: Literal["GOVERNANCE", "COMPLIANCE"]
    days: int | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        if (self.days is None) == (self.until is None):
            raise ValueError("an object lock has either days or until")

    def retain_until(self, now: Callable[[], datetime] | None) -> datetime:
        """When an object written now may be deleted; ValueError for days without a clock."""
        if self.until is not None:
            return self.until
        if now is None or self.days is None:
            raise ValueError("an object lock in days needs a clock")
        return now() + timedelta(days=self.days)


@dataclass(frozen=True)
class S3Options:
    """Where the repository is and how to speak to it; credentials come from boto3's own chain.

    ``checksum_mode`` None means "when_required" for a custom endpoint, because some stores refuse the newer
    checksum headers, and "when_supported" for AWS. ``conditional_writes="emulated"`` looks before it writes,
    for stores that ignore If-None-Match: two writers at the same moment are then not kept apart.
    """

    name: str
    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    sse: Literal["AES256", "aws:kms"] | None = None
    sse_kms_key_id: str | None = None
    storage_class: str | None = None
    ca_bundle: Path | None = None
    checksum_mode: Literal["when_required", "when_supported"] | None = None
    conditional_writes: Literal["required", "emulated"] = "required"
    object_lock: ObjectLock | None = None
    connect_timeout: float = 10.0
    """Seconds."""
    read_timeout: float = 60.0
    """Seconds without a byte from the store."""
    max_pool_connections: int = 32

    @property
    def checksums(self) -> Literal["when_required", "when_supported"]:
        """The checksum mode in force."""
        return self.checksum_mode or ("when_required" if self.endpoint_url else "when_supported")


class Bucket:
    """Client, key prefix, write settings and error translation, shared by the store and its uploads."""

    def __init__(
        self, options: S3Options, session: boto3.Session | None, now: Callable[[], datetime] | None
    ) -> None:
        if options.object_lock:
            options.object_lock.retain_until(now)  # fails now rather than at the first write
        self.options = options
        self._now = now
        self._where = f"repository {options.name} (bucket {options.bucket})"
        self._folder = f"{options.prefix.strip('/')}/" if options.prefix.strip("/") else ""
        self.client = self._connect(session)

    def path(self, key: str) -> str:
        """The key in the bucket."""
        return self._folder + key

    def key(self, path: str) -> str:
        """The key in the repository."""
        return path[len(self._folder) :]

    @contextmanager
    def translating(self, action: str, key: str) -> Iterator[None]:
        """Turn every foreign exception inside into one of ours, once."""
        doing = f"{action} {key}"
        try:
            yield
        except FOREIGN as e:
            error = translate(e, self._where, doing)
            if isinstance(error, ObjectNotFound) or code_of(e).isdigit():
                self._ask_bucket(doing)
            raise error from e

    def field(self, answer: Mapping[str, Any], name: str, action: str, key: str) -> Any:
        """A field that every S3 answer of that kind has; without it, something else has answered with 200."""
        if answer.get(name) is None:
            raise StoreUnavailable(
                f"{self._where}: cannot {action} {key}: the answer is not that of an S3 store",
                hint="check that endpoint_url is the store itself and not a proxy or a login page",
            )
        return answer[name]

    def write_settings(self) -> dict[str, Any]:
        """Parameters for PutObject and CreateMultipartUpload alike."""
        o = self.options
        settings: dict[str, Any] = {
            "ServerSideEncryption": o.sse,
            "SSEKMSKeyId": o.sse_kms_key_id,
            "StorageClass": o.storage_class,
        }
        if o.object_lock:
            settings["ObjectLockMode"] = o.object_lock.mode
            settings["ObjectLockRetainUntilDate"] = o.object_lock.retain_until(self._now)
        return {name: value for name, value in settings.items() if value is not None}

    def integrity(self, data: bytes) -> dict[str, Any]:
        """What lets the store refuse bytes that changed on the way; Content-MD5 every store understands.

        boto3's signature covers the body too, but not every store compares it. S3 demands a checksum for
        locked objects.
        """
        if self.options.checksums == "when_supported":
            return {}  # boto3 adds one of its own
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        return {"ContentMD5": base64.b64encode(digest).decode()}

    def _ask_bucket(self, doing: str) -> None:
        """Raise what is wrong with the bucket as a whole, if anything is.

        A missing bucket must not look like a missing object, and the answer to HEAD has no body to tell them
        apart; the answer to a listing has.
        """
        try:
            self.client.list_objects_v2(Bucket=self.options.bucket, MaxKeys=1)
        except FOREIGN as e:
            raise translate(e, self._where, doing) from e

    @cached_property
    def quick(self) -> QuickReader:
        """For small objects."""
        return QuickReader(self.client, self._session, self.options)

    def _connect(self, session: boto3.Session | None) -> S3Client:
        o = self.options
        config = Config(
            connect_timeout=o.connect_timeout,
            read_timeout=o.read_timeout,
            max_pool_connections=o.max_pool_connections,
            tcp_keepalive=True,
            retries={"total_max_attempts": 1},  # RetryingStore retries, with a budget
            s3={"addressing_style": o.addressing_style},
            request_checksum_calculation=o.checksums,
            response_checksum_validation=o.checksums,
        )
        try:
            self._session = session or boto3.Session()
            parsers = self._session._session.get_component("response_parser_factory")
            parsers.set_parser_defaults(timestamp_parser=_moment)
            client = self._session.client(
                "s3",
                region_name=o.region,
                endpoint_url=o.endpoint_url,
                verify=str(o.ca_bundle) if o.ca_bundle else None,
                config=config,
            )
        except ValueError as e:
            raise RepositoryError(
                f"{self._where}: {e}", hint="endpoint_url must be like https://s3.example.com:9000"
            ) from e
        except FOREIGN as e:
            raise translate(e, self._where, "set up the S3 client") from e
        client.meta.events.register("before-call.s3", _refuse_redirects)
        return client


def _moment(value: Any) -> datetime:
    """A listing dates thousands of objects, all in one form; botocore would try many forms for each."""
    if isinstance(value, str) and value.endswith("Z"):
        try:
            return instant(value)
        except ValueError:
            pass
    return parse_timestamp(value)


def _refuse_redirects(params: dict[str, Any], **_: object) -> None:
    """boto3 follows a bucket into another region with an extra request each time; we say so instead, once."""
    params["context"].setdefault("s3_redirect", {})["redirected"] = True
