"""Multipart uploads to S3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from etcdguard.errors import RepositoryError
from etcdguard.storage.arguments import check_part_number, check_parts
from etcdguard.storage.base import ObjectInfo
from etcdguard.storage.s3_bucket import Bucket
from etcdguard.storage.s3_errors import FOREIGN, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["S3Multipart", "abort_upload"]

_GONE = "NoSuchUpload"


class S3Multipart:
    """See MultipartWriter. Holds no data: memory is what the callers of ``write_part`` hold."""

    min_part_size = 5 * 1024 * 1024

    def __init__(self, bucket: Bucket, key: str) -> None:
        self._bucket = bucket
        self._key = key
        # Named at the beginning, sent with every part and repeated at the end, or else not at all.
        summed = bucket.options.checksums == "when_supported"
        self._checksum: dict[str, Any] = {"ChecksumAlgorithm": "CRC32"} if summed else {}
        self._parts: dict[int, CompletedPartTypeDef] = {}
        self._sizes: dict[int, int] = {}
        self._done: ObjectInfo | None = None
        with bucket.translating("begin the upload of", key):
            answer = bucket.client.create_multipart_upload(
                Bucket=bucket.options.bucket,
                Key=bucket.path(key),
                **bucket.write_settings(),
                **self._checksum,
            )
        self._upload_id = bucket.field(answer, "UploadId", "begin the upload of", key)

    def write_part(self, number: int, data: bytes) -> None:
        """See MultipartWriter."""
        action = f"upload part {check_part_number(number)} of"
        with self._bucket.translating(action, self._key):
            answer = self._bucket.client.upload_part(
                Bucket=self._bucket.options.bucket,
                Key=self._bucket.path(self._key),
                UploadId=self._upload_id,
                PartNumber=number,
                Body=data,
                **self._checksum,
                **self._bucket.integrity(data),
            )
        part: CompletedPartTypeDef = {
            "PartNumber": number,
            "ETag": self._bucket.field(answer, "ETag", action, self._key),
        }
        if self._checksum and "ChecksumCRC32" in answer:
            part["ChecksumCRC32"] = answer["ChecksumCRC32"]
        self._parts[number] = part
        self._sizes[number] = len(data)

    def complete(self) -> ObjectInfo:
        """See MultipartWriter."""
        if self._done is None:
            check_parts(self._parts)
            info = ObjectInfo(self._key, sum(self._sizes.values()))
            with self._bucket.translating("complete the upload of", self._key):
                self._complete(info)
            self._done = info
        return self._done

    def abort(self) -> None:
        """See MultipartWriter."""
        abort_upload(self._bucket, self._key, self._upload_id)

    def _complete(self, info: ObjectInfo) -> None:
        """Assemble, and believe only the object itself.

        An upload that is gone may have been completed by a call whose answer was lost; and some stores say
        all is well although the upload was aborted, because an older object stands at the key.
        """
        bucket, path = self._bucket.options.bucket, self._bucket.path(self._key)
        try:
            self._bucket.client.complete_multipart_upload(
                Bucket=bucket,
                Key=path,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": [self._parts[number] for number in sorted(self._parts)]},
            )
        except FOREIGN as e:
            if code_of(e) != _GONE or self._size(path) != info.size:
                raise
        else:
            if self._size(path) != info.size:
                raise RepositoryError(
                    f"repository {self._bucket.options.name}: {self._key} does not hold the parts sent to it",
                    hint="something else aborted the upload or writes to this key; start the backup again",
                )

    def _size(self, path: str) -> int | None:
        """Of the object that stands there, or None."""
        try:
            answer = self._bucket.client.head_object(Bucket=self._bucket.options.bucket, Key=path)
        except FOREIGN as e:
            if code_of(e) == "404":
                return None
            raise
        return answer["ContentLength"]


def abort_upload(bucket: Bucket, key: str, upload_id: str) -> None:
    """Forget an upload; one that is gone already is success."""
    with bucket.translating("abort the upload of", key):
        try:
            bucket.client.abort_multipart_upload(
                Bucket=bucket.options.bucket, Key=bucket.path(key), UploadId=upload_id
            )
        except FOREIGN as e:
            if code_of(e) != _GONE:
                raise
