"""What the orchestrator and a host say to each other: one request, one answer, both JSON. Pure.

Before its answer a host may tell how far it is, if the request asked for that.

A request carries the whole plan with its digest, so that a host works from nothing but what it can check. The
identities that open the backup are the only secret in it: they are redacted everywhere but on the wire, which
is a pipe (stdin), never a command line or a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from etcdguard.errors import (
    ClusterUnhealthy,
    Corruption,
    EtcdGuardError,
    EtcdUnreachable,
    Interrupted,
    Locked,
    PartialFailure,
    Refused,
    RepositoryError,
    Stale,
    UsageError,
    WrongKey,
)

__all__ = [
    "PROTOCOL",
    "StepAnswer",
    "StepError",
    "StepName",
    "StepProgress",
    "StepRequest",
    "answer_bytes",
    "failure",
    "progress_bytes",
    "read_answer",
    "read_progress",
    "read_request",
    "request_bytes",
]

PROTOCOL = 1
"""Raised when a request or an answer changes its meaning; both sides refuse any other."""

StepName = Literal[
    "hello",
    "preflight",
    "stage",
    "close",
    "quiesce",
    "barrier",
    "swap",
    "gate",
    "start",
    "reopen",
    "rollback",
    "resume",
    "discard",
    "cleanup",
    "status",
]
"""``close`` stops what uses etcd, ``quiesce`` etcd itself; ``resume`` starts again what they stopped."""

_CLASSES: dict[int, type[EtcdGuardError]] = {
    one.exit_code: one
    for one in (
        EtcdGuardError,
        EtcdUnreachable,
        PartialFailure,
        ClusterUnhealthy,
        RepositoryError,
        Locked,
        WrongKey,
        Corruption,
        Stale,
        Refused,
        UsageError,
        Interrupted,
    )
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, hide_input_in_errors=True)


class StepRequest(_Part):
    """One step for the members of one host. ``plan`` is a plan document; only ``hello`` goes without."""

    protocol: int = PROTOCOL
    version: str
    """etcdguard's, which must be the same on all hosts."""
    step: StepName
    plan: dict[str, Any] | None = None
    members: tuple[str, ...] = ()
    unsigned: bool = False
    live_quorum: bool = False
    proven: bool = False
    """For ``reopen`` and ``cleanup``: the running cluster has been seen to be whole."""
    repository: str | None = None
    """The repository to fetch from; None is the first that answers."""
    tool: str | None = None
    """Path of the restore tool on the host; None lets it look for its own."""
    progress: bool = False
    """Whether lines of ``StepProgress`` may come before the answer. They need not."""
    identities: tuple[SecretStr, ...] = ()
    """Only for ``preflight`` and ``stage``; without any, the host opens the backup with its own."""


class StepError(_Part):
    """An error as it travels; ``check`` names the preflight check that found it."""

    exit_code: int
    message: str
    hint: str
    check: str | None = None

    @classmethod
    def of(cls, error: EtcdGuardError, check: str | None = None) -> StepError:
        """The error as it travels."""
        return cls(exit_code=error.exit_code, message=error.message, hint=error.hint, check=check)

    def error(self, host: str) -> EtcdGuardError:
        """The error again, saying where it comes from."""
        return _CLASSES.get(self.exit_code, EtcdGuardError)(f"{host}: {self.message}", hint=self.hint)


class StepAnswer(_Part):
    """What became of a step. ``facts`` are for people and reports; ``findings`` only preflight has."""

    protocol: int = PROTOCOL
    version: str
    ok: bool
    facts: dict[str, Any] = Field(default_factory=dict)
    findings: tuple[StepError, ...] = ()
    error: StepError | None = None


class StepProgress(_Part):
    """How far a step is that has not ended: ``progress`` names its part, such as ``fetch``."""

    protocol: int = PROTOCOL
    progress: str
    bytes: int
    total_bytes: int | None = None


def failure(version: str, error: EtcdGuardError) -> StepAnswer:
    """The answer that says a step failed."""
    return StepAnswer(version=version, ok=False, error=StepError.of(error))


def request_bytes(request: StepRequest) -> bytes:
    """One line, identities in clear: for the pipe to the host alone."""
    body = request.model_dump(mode="json", exclude={"identities"})
    body["identities"] = [identity.get_secret_value() for identity in request.identities]
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def read_request(data: bytes) -> StepRequest:
    """Read a request; raises Refused."""
    body = _read(data, "request", hint="`etcdguard node` is for the orchestrator: run `etcdguard restore`")
    if body.get("step") not in get_args(StepName):
        raise Refused("the request names no step known here", hint="install the same etcdguard on all hosts")
    return cast(StepRequest, _validated(StepRequest, data, "request"))


def answer_bytes(answer: StepAnswer) -> bytes:
    """One line."""
    return answer.model_dump_json().encode() + b"\n"


def read_answer(data: bytes) -> StepAnswer:
    """Read an answer; raises Refused."""
    _read(data, "answer", hint="see what the remote command prints: a shell profile must print nothing")
    return cast(StepAnswer, _validated(StepAnswer, data, "answer"))


def progress_bytes(progress: StepProgress) -> bytes:
    """One line."""
    return progress.model_dump_json().encode() + b"\n"


def read_progress(data: bytes) -> StepProgress | None:
    """Read a line that tells progress; None for any other, which ``read_answer`` judges. Raises Refused."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or "progress" not in body:
        return None
    _read(data, "progress", hint="install the same version of etcdguard on every host")
    return cast(StepProgress, _validated(StepProgress, data, "progress"))


def _read(data: bytes, what: str, *, hint: str) -> Mapping[str, Any]:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise Refused(f"the {what} is not JSON", hint=hint) from e
    if not isinstance(body, dict) or "protocol" not in body:
        raise Refused(f"the {what} is not one of etcdguard's", hint=hint)
    if body["protocol"] != PROTOCOL:
        raise Refused(
            f"the {what} speaks protocol {str(body['protocol'])[:20]}, not {PROTOCOL}",
            hint="install the same version of etcdguard on every host",
        )
    return body


def _validated(kind: type[_Part], data: bytes, what: str) -> _Part:
    try:
        return kind.model_validate_json(data)
    except ValidationError as e:
        places = ", ".join(sorted({".".join(map(str, problem["loc"])) for problem in e.errors()}))
        # Not chained: pydantic's error would carry the input.
        raise Refused(
            f"the {what} is malformed: {places}", hint="install the same version of etcdguard on every host"
        ) from None
