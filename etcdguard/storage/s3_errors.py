"""What an S3 failure means: every exception of boto3 and the layers below it, translated once.

Passing faults become StoreUnavailable, so that the retry wrapper needs to know one type only. Nothing here
quotes headers or request bodies: a message may end up in a log.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator

import urllib3.exceptions
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from etcdguard.errors import AccessDenied, ObjectExists, ObjectNotFound, RepositoryError, StoreUnavailable

__all__ = ["FOREIGN", "code_of", "translate"]

FOREIGN: tuple[type[Exception], ...] = (
    boto.ClientError,
    boto.BotoCoreError,
    ResponseParserError,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,  # ssl.SSLError, timeouts and resets are OSErrors
)
"""Everything a boto3 call or a response body can raise."""

_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
)
_PASSING = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.FlexibleChecksumError,  # bits flipped on the way
    ResponseParserError,  # the answer was cut short, or a proxy answered instead of the store
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)
_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_PASSING_CODES = {
    "BadDigest",
    "ConditionalRequestConflict",  # S3 asks to try again: the key may or may not be taken
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "RequestTimeout",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_DENIED_CODES = {
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
    "XAdminUserNotFound",  # the Versity gateway's InvalidAccessKeyId, sent as 404
}
_ABSENT_CODES = {"404", "NoSuchKey", "NoSuchVersion"}  # an answer to HEAD has only its status
_REGION_CODES = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
}
_UNKNOWN_KEY_HINT = "check AWS_ACCESS_KEY_ID or the profile: the store does not know this key"
_DENIED_HINTS = {
    "ExpiredToken": "renew the session credentials",
    "InvalidAccessKeyId": _UNKNOWN_KEY_HINT,
    "XAdminUserNotFound": _UNKNOWN_KEY_HINT,
    "RequestTimeTooSkewed": "set this host's clock: it differs too much from the store's",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY and the region: the signature was refused",
}
_DENIED_HINT = "check the credentials and the bucket policy: list, read, write and delete are needed"
_UNAVAILABLE_HINT = "check the network and the endpoint_url; a later run tries again"


def code_of(error: Exception) -> str:
    """The store's error code (the HTTP status where the answer had no body), or "" if it never answered."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, boto.ClientError) else ""


def translate(error: Exception, where: str, doing: str) -> RepositoryError:
    """Our error for ``error``, met while ``doing`` something to the repository named by ``where``."""
    if isinstance(error, boto.ClientError):
        return _answered(error, f"{where}: cannot {doing}")
    message = f"{where}: cannot {doing}: {_one_line(str(error)) or type(error).__name__}"
    tls = next((cause for cause in _causes(error) if isinstance(cause, ssl.SSLError)), None)
    if isinstance(error, boto.SSLError) or tls is not None:
        if isinstance(tls, _CUT_SHORT):
            return StoreUnavailable(message, hint=_UNAVAILABLE_HINT)
        hint = (
            "TLS failed: set ca_bundle to the CA that signed the store's certificate and check endpoint_url"
        )
        return RepositoryError(message, hint=hint)
    if isinstance(error, _CREDENTIALS):
        return AccessDenied(message, hint="give credentials by environment, profile or instance role")
    if any(isinstance(cause, FileNotFoundError | PermissionError) for cause in _causes(error)):
        return RepositoryError(message, hint="check that ca_bundle and the credential files can be read")
    if isinstance(error, _PASSING):
        return StoreUnavailable(message, hint=_UNAVAILABLE_HINT)
    return RepositoryError(message, hint="check the repository's s3 section in the configuration")


def _answered(error: boto.ClientError, cannot: str) -> RepositoryError:
    """The store answered, and the answer is an error."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = code_of(error)
    said = _one_line(str(error.response.get("Error", {}).get("Message", "")))
    message = f"{cannot}: {code} ({status})" + (f": {said}" if said else "")
    if code == "NoSuchBucket":
        return RepositoryError(f"{cannot}: the bucket does not exist", hint="create it or correct 'bucket'")
    if code == "PreconditionFailed" or status == 412:
        return ObjectExists(message, hint="another writer was first; nothing was changed")
    if code in _PASSING_CODES or status == 429 or (status >= 500 and status != 501):
        return StoreUnavailable(message, hint=_UNAVAILABLE_HINT)
    region = _region_said(error)
    if code in _REGION_CODES or status in (301, 307, 308) or (status == 400 and region):
        hint = f"set region to {region}" if region else "set region and endpoint_url to those of the bucket"
        return RepositoryError(f"{cannot}: the bucket is in another region", hint=hint)
    if code in _DENIED_CODES or status in (401, 403):
        return AccessDenied(message, hint=_DENIED_HINTS.get(code, _DENIED_HINT))
    if code in _ABSENT_CODES:
        return ObjectNotFound(f"{cannot}: it does not exist", hint="run 'etcdguard list'")
    if code.startswith("KMS."):
        return RepositoryError(message, hint="check sse_kms_key_id: the store cannot use this key")
    return RepositoryError(message, hint="run 'etcdguard check repository' to see what this store supports")


def _region_said(error: boto.ClientError) -> str:
    """The region the store itself names for the bucket, or ""."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    details: dict[str, str] = dict(error.response.get("Error", {}))  # type: ignore[arg-type]
    return str(details.get("Region") or headers.get("x-amz-bucket-region", ""))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything below it; botocore keeps the original in ``kwargs["error"]``."""
    seen: set[int] = set()
    queue: list[object] = [error]
    while queue:
        cause = queue.pop(0)
        if not isinstance(cause, BaseException) or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        kept = getattr(cause, "kwargs", {}).get("error")
        queue += [kept, cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]


def _one_line(text: str) -> str:
    """Short, without line breaks and without the query part of URLs."""
    return " ".join(re.sub(r"(https?://[^\s\"?]*)\?[^\s\"]*", r"\1", text).split())[:200]
