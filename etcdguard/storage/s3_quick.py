"""Small objects read with less than half of the work that boto3 does for a request.

Thousands of manifests are read one by one, and boto3 resolves endpoint, parameters and answer anew for
each. Here the bucket's address is resolved once, by boto3, and a GET is signed by botocore's signer and sent
by urllib3. Anything but the object is no answer: the caller then asks boto3, which knows what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import urllib3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from etcdguard.storage.s3_errors import FOREIGN

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client

    from etcdguard.storage.s3_bucket import S3Options

__all__ = ["QuickReader"]

_SAMPLE = "sample"


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
        self._origin = f"{url.scheme}://{url.netloc}"
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
        wanted = {"Range": f"bytes=0-{length - 1}", "Accept-Encoding": "identity"}
        request = AWSRequest("GET", self._origin + target, headers=wanted)
        try:
            S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
            headers = dict(request.headers.items())
            answer = self._pool.urlopen("GET", target, headers=headers, redirect=False, retries=False)
        except FOREIGN:
            self._usable = False
            return None
        if answer.status == 206 and answer.headers.get("Content-Range", "").startswith("bytes 0-"):
            return answer.data
        if answer.status not in (404, 416):
            self._usable = False
        return None
