"""Every foreign exception has one meaning, one line and one hint."""

from __future__ import annotations

import http.client
import ssl
from typing import Any

import pytest
import urllib3.exceptions
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from etcdguard.errors import AccessDenied, ObjectExists, ObjectNotFound, RepositoryError, StoreUnavailable
from etcdguard.storage.s3_errors import FOREIGN, translate


def answer(status: int, code: str = "", message: str = "said the store", **details: str) -> boto.ClientError:
    headers = {"x-amz-bucket-region": details.pop("header_region")} if "header_region" in details else {}
    response: Any = {
        "Error": {"Code": code or str(status), "Message": message, **details},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return boto.ClientError(response, "PutObject")


URL = "https://s3.example.com/bucket?list-type=2&X-Amz-Signature=abc"


def tls(cause: ssl.SSLError) -> boto.SSLError:
    return boto.SSLError(endpoint_url=URL, error=urllib3.exceptions.SSLError(cause))


@pytest.mark.parametrize(
    ("error", "kind", "hint"),
    [
        (answer(404, "NoSuchBucket"), RepositoryError, "create it"),
        (answer(404, "NoSuchKey"), ObjectNotFound, "list"),
        (answer(404), ObjectNotFound, "list"),
        (answer(404, "NoSuchUpload"), RepositoryError, "check repository"),
        (answer(404, "SomethingElseEntirely"), RepositoryError, "check repository"),
        (answer(404, "XAdminUserNotFound"), AccessDenied, "AWS_ACCESS_KEY_ID"),
        (answer(412, "PreconditionFailed"), ObjectExists, "nothing was changed"),
        (answer(409, "ConditionalRequestConflict"), StoreUnavailable, "network"),
        (answer(409, "BucketAlreadyExists"), RepositoryError, "check repository"),
        (answer(403, "AccessDenied"), AccessDenied, "policy"),
        (answer(403), AccessDenied, "policy"),
        (answer(403, "InvalidAccessKeyId"), AccessDenied, "AWS_ACCESS_KEY_ID"),
        (answer(403, "SignatureDoesNotMatch"), AccessDenied, "AWS_SECRET_ACCESS_KEY"),
        (answer(403, "RequestTimeTooSkewed"), AccessDenied, "clock"),
        (answer(400, "ExpiredToken"), AccessDenied, "renew"),
        (
            answer(301, "PermanentRedirect", header_region="eu-north-1"),
            RepositoryError,
            "region to eu-north-1",
        ),
        (answer(400, "AuthorizationHeaderMalformed", Region="eu-north-1"), RepositoryError, "to eu-north-1"),
        (answer(400, header_region="eu-north-1"), RepositoryError, "region to eu-north-1"),
        (answer(301), RepositoryError, "region"),
        (answer(500, "InternalError"), StoreUnavailable, "network"),
        (answer(502), StoreUnavailable, "network"),
        (answer(503, "SlowDown"), StoreUnavailable, "network"),
        (answer(429), StoreUnavailable, "network"),
        (answer(400, "RequestTimeout"), StoreUnavailable, "network"),
        (answer(400, "BadDigest"), StoreUnavailable, "network"),
        (answer(501, "NotImplemented"), RepositoryError, "check repository"),
        (answer(400, "KMS.NotFoundException"), RepositoryError, "sse_kms_key_id"),
        (answer(400, "EntityTooSmall"), RepositoryError, "check repository"),
        (boto.NoCredentialsError(), AccessDenied, "credentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="secret"), AccessDenied, "credentials"),
        (boto.ProfileNotFound(profile="missing"), AccessDenied, "credentials"),
        (boto.EndpointConnectionError(endpoint_url=URL), StoreUnavailable, "network"),
        (boto.ConnectTimeoutError(endpoint_url=URL), StoreUnavailable, "network"),
        (boto.ReadTimeoutError(endpoint_url=URL), StoreUnavailable, "network"),
        (boto.ConnectionClosedError(endpoint_url=URL), StoreUnavailable, "network"),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailable, "network"),
        (boto.ResponseStreamingError(error=ValueError("x")), StoreUnavailable, "network"),
        (boto.FlexibleChecksumError(error_msg="bits flipped"), StoreUnavailable, "network"),
        (boto.HTTPClientError(error=ValueError("x")), StoreUnavailable, "network"),
        (boto.ParamValidationError(report="bad bucket"), RepositoryError, "s3 section"),
        (boto.NoRegionError(), RepositoryError, "s3 section"),
        (ResponseParserError("invalid XML received"), StoreUnavailable, "network"),
        (urllib3.exceptions.ProtocolError("broken"), StoreUnavailable, "network"),
        (http.client.RemoteDisconnected("gone"), StoreUnavailable, "network"),
        (ConnectionResetError(104, "reset"), StoreUnavailable, "network"),
        (TimeoutError("timed out"), StoreUnavailable, "network"),
        (tls(ssl.SSLCertVerificationError("self-signed certificate")), RepositoryError, "ca_bundle"),
        (tls(ssl.SSLError("WRONG_VERSION_NUMBER")), RepositoryError, "ca_bundle"),
        (tls(ssl.SSLEOFError("EOF occurred in violation of protocol")), StoreUnavailable, "network"),
        (ssl.SSLCertVerificationError("expired"), RepositoryError, "ca_bundle"),
        (boto.HTTPClientError(error=FileNotFoundError(2, "no such file")), RepositoryError, "can be read"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, Exception) else None,
)
def test_meaning(error: Exception, kind: type[RepositoryError], hint: str) -> None:
    assert isinstance(error, FOREIGN)
    ours = translate(error, "repository offsite", "write a/b")
    assert type(ours) is kind
    assert hint in ours.hint
    assert ours.message.startswith("repository offsite: cannot write a/b: ")
    assert "\n" not in ours.message + ours.hint
    assert "X-Amz-Signature" not in ours.message


def test_what_the_store_says_is_quoted_on_one_short_line() -> None:
    ours = translate(answer(400, "Odd", "line one\n  line two " + "x" * 1000), "repository r", "list /")
    assert ours.message.startswith("repository r: cannot list /: Odd (400): line one line two xxx")
    assert len(ours.message) < 300


def test_a_cycle_of_causes_ends() -> None:
    one, two = boto.HTTPClientError(error=ValueError("x")), ValueError("y")
    one.__cause__, two.__cause__ = two, one
    assert type(translate(one, "repository r", "list /")) is StoreUnavailable
