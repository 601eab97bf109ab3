"""Our own signature of a GET beside botocore's."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from etcdguard.storage.s3_quick import signed_headers


@pytest.mark.parametrize("token", [None, "IQoJb3JpZ2luX2VjE/+=="], ids=["lasting", "temporary"])
@pytest.mark.parametrize("target", ["/bucket/prod/backups/a-1/manifest.json", "/a%20b/%2Bc~d_e.json"])
def test_it_is_the_signature_that_botocore_makes(token: str | None, target: str) -> None:
    credentials = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    host, wanted = "s3.example.org:9000", "bytes=0-1048576"
    request = AWSRequest(
        "GET",
        f"https://{host}{target}",
        headers={"Range": wanted},
    )
    S3SigV4Auth(credentials, "s3", "eu-central-1").add_auth(request)
    theirs = {name.lower(): value for name, value in request.headers.items()}
    now = datetime.strptime(theirs["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    ours = signed_headers(credentials, "eu-central-1", now, host=host, target=target, wanted=wanted)
    assert ours["authorization"] == theirs["authorization"]
    assert ours.get("x-amz-security-token") == token
