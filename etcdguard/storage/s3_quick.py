"""Small objects read with a quarter of the work that boto3 does for a request.

Thousands of manifests are read one by one, and boto3 resolves endpoint, parameters and answer anew for
each. Here the bucket's address is resolved once, by boto3, and a GET is signed (AWS Signature Version 4) and
sent by urllib3. Anything but the object is no answer: the caller then asks boto3, which knows what is wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from datetime import datetime, timezone
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import urllib3
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from etcdguard.storage.s3_errors import FOREIGN

if TYPE_CHECKING:
    import boto3
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_s3 import S3Client

    from etcdguard.storage.s3_bucket import S3Options

__all__ = ["QuickReader", "signed_headers"]

_SAMPLE = "sample"
_NOTHING = hashlib.sha256().hexdigest()
"""The digest of a request's body: there is none."""


class QuickReader:
    """Reads from one bucket; shared by threads. After its first failure it leaves everything to boto3."""

    def __init__(
        self,
        client: S3Client,
        session: boto3.Session,
        options: S3Options,
    ) -> None:
        sample = client.generate_presigned_url(
            "get_object", Params={"Bucket": options.bucket, "Key": _SAMPLE}, ExpiresIn=60
        )
        url = urlsplit(sample)
        self._host = url.netloc
        self._folder = url.path.removesuffix(_SAMPLE)
        self._region = client.meta.region_name
        self._credentials = session.get_credentials()
        self._usable = self._credentials is not None and not get_environ_proxies(sample)
        host = url.hostname or ""
        timeout = urllib3.Timeout(connect=options.connect_timeout, read=options.read_timeout)
        most = options.max_pool_connections
        if url.scheme == "https":
            bundle = str(options.ca_bundle) if options.ca_bundle else get_cert_path(True)
            self._pool: urllib3.HTTPConnectionPool = urllib3.HTTPSConnectionPool(
                host, url.port, timeout=timeout, maxsize=most, ca_certs=bundle
            )
        else:
            self._pool = urllib3.HTTPConnectionPool(host, url.port, timeout=timeout, maxsize=most)

    def read(self, path: str, length: int) -> bytes | None:
        """The first ``length`` bytes of the object at that path of the bucket, or None for whatever else."""
        if not self._usable or self._credentials is None:
            return None
        target = self._folder + quote(path, safe="/-_.~")
        wanted = f"bytes=0-{length - 1}"
        try:
            headers = signed_headers(
                self._credentials.get_frozen_credentials(),
                self._region,
                datetime.now(timezone.utc),  # as botocore does: the store compares it with its own
                host=self._host,
                target=target,
                wanted=wanted,
            )
            answer = self._pool.urlopen("GET", target, headers=headers, redirect=False, retries=False)
        except FOREIGN:
            self._usable = False
            return None
        if answer.status == 206 and answer.headers.get("Content-Range", "").startswith("bytes 0-"):
            return answer.data
        if answer.status not in (404, 416):
            self._usable = False
        return None


_keys: dict[tuple[str, str, str], bytes] = {}
_lock = threading.Lock()


def signed_headers(
    credentials: ReadOnlyCredentials, region: str, now: datetime, *, host: str, target: str, wanted: str
) -> dict[str, str]:
    """The headers of a signed GET of ``target`` (quoted, without a query), of the range ``wanted``.

    By the AWS documentation "Create a signed AWS API request"; a test compares them with botocore's own.
    """
    moment = now.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": host,
        "range": wanted,
        "x-amz-content-sha256": _NOTHING,
        "x-amz-date": moment,
    }
    if credentials.token:
        headers["x-amz-security-token"] = credentials.token
    names = ";".join(headers)  # in order already
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    request = f"GET\n{target}\n\n{lines}\n{names}\n{_NOTHING}"
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signature = hmac.new(
        _signing_key(credentials.secret_key or "", moment[:8], region), text.encode(), hashlib.sha256
    ).hexdigest()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    return {**headers, "authorization": authorization, "accept-encoding": "identity"}


def _signing_key(secret: str, day: str, region: str) -> bytes:
    """One a day; only the newest is remembered."""
    with _lock:
        found = _keys.get((secret, day, region))
        if found is None:
            found = f"AWS4{secret}".encode()
            for part in (day, region, "s3", "aws4_request"):
                found = hmac.new(found, part.encode(), hashlib.sha256).digest()
            _keys.clear()
            _keys[secret, day, region] = found
        return found
