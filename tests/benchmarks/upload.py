"""``| python -m tests.benchmarks.upload URL BUCKET KEY``: stdin to an object, as ``aws s3 cp -`` does.

boto3's own multipart transfer, which is what that command uses too.
"""

from __future__ import annotations

import sys

import boto3


def main() -> None:
    """Upload."""
    url, bucket, key = sys.argv[1:]
    boto3.client("s3", endpoint_url=url, region_name="us-east-1").upload_fileobj(
        sys.stdin.buffer, bucket, key
    )


if __name__ == "__main__":
    main()
