"""A store that fails on cue: every fault a remote store can show, and a crash after k operations."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal, TypeVar

from etcdguard.errors import AccessDenied, RepositoryError, StoreUnavailable
from etcdguard.storage.base import Lock, MultipartWriter, ObjectInfo, RepositoryStore, StaleUpload

__all__ = ["Fault", "FaultyStore", "Operation", "Rule", "SimulatedCrash"]

Operation = Literal[
    "put", "get", "head", "list", "delete", "multipart", "write_part", "complete", "abort",
    "stale_uploads", "abort_upload", "lock", "time", "folders",
]  # fmt: skip

T = TypeVar("T")


class Fault(Enum):
    """What goes wrong, as the S3 adapter would translate it."""

    TIMEOUT = "timed out"
    RESET = "connection reset"
    SERVER_ERROR = "InternalError (500)"
    SLOW_DOWN = "SlowDown (503)"
    DENIED = "AccessDenied (403)"
    LOST_ACK = "the operation happens, its answer is lost"
    CUT_SHORT = "a body or listing breaks off half-way"


@dataclass(frozen=True)
class Rule:
    """Fail calls of ``operation`` with ``key`` in their key: ``times`` of them (None: all) after ``skip``."""

    fault: Fault
    operation: Operation
    key: str = ""
    skip: int = 0
    times: int | None = 1

    def __post_init__(self) -> None:
        reads_a_stream = self.operation in ("get", "list")
        if self.fault is (Fault.LOST_ACK if reads_a_stream else Fault.CUT_SHORT):
            raise ValueError(f"{self.fault.name} cannot happen to {self.operation}")


class SimulatedCrash(BaseException):
    """The process died here; nothing it would have done afterwards happens."""


class FaultyStore:
    """``inner`` with the faults of ``script``; after ``crash_after`` operations, every call crashes.

    ``operations`` records each operation let through to ``inner``, in order, as (operation, key).
    """

    def __init__(
        self, inner: RepositoryStore, script: Sequence[Rule] = (), *, crash_after: int | None = None
    ) -> None:
        self.name = inner.name
        self.operations: list[tuple[Operation, str]] = []
        self._inner = inner
        self._script = tuple(script)
        self._met = [0] * len(self._script)
        self._crash_after = crash_after
        self._lock = threading.Lock()

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """See ObjectStore."""
        self.perform("put", key, lambda: self._inner.put(key, data, create_only=create_only))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ObjectStore."""
        fault = self._begin("get", key)
        if fault is None:
            yield from self._inner.get(key, offset=offset, length=length)
            return
        if fault is Fault.CUT_SHORT:
            body = b"".join(self._inner.get(key, offset=offset, length=length))
            yield body[: len(body) // 2]
        raise self._error(fault, "get", key)

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        return self.perform("head", key, lambda: self._inner.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. CUT_SHORT yields half, as a careless implementation would, and then raises."""
        fault = self._begin("list", prefix)
        if fault is None:
            yield from self._inner.list(prefix)
            return
        if fault is Fault.CUT_SHORT:
            found = list(self._inner.list(prefix))
            yield from found[: len(found) // 2]
        raise self._error(fault, "list", prefix)

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        self.perform("delete", key, lambda: self._inner.delete(key))

    def multipart(self, key: str) -> MultipartWriter:
        """See ObjectStore."""
        return _FaultyWriter(self, key, self.perform("multipart", key, lambda: self._inner.multipart(key)))

    def stale_uploads(self, prefix: str) -> Sequence[StaleUpload]:
        """See UploadJanitor."""
        return self.perform("stale_uploads", prefix, lambda: self._inner.stale_uploads(prefix))

    def abort_upload(self, upload: StaleUpload) -> None:
        """See UploadJanitor."""
        self.perform("abort_upload", upload.key, lambda: self._inner.abort_upload(upload))

    def lock(self, key: str) -> Lock | None:
        """See Custodian."""
        return self.perform("lock", key, lambda: self._inner.lock(key))

    def folders(self, prefix: str) -> Sequence[str]:
        """See Surveyor."""
        return self.perform("folders", prefix, lambda: self._inner.folders(prefix))

    def time(self) -> datetime | None:
        """See Custodian."""
        return self.perform("time", "", self._inner.time)

    def perform(self, operation: Operation, key: str, action: Callable[[], T]) -> T:
        """Do ``action``, unless the script says otherwise."""
        fault = self._begin(operation, key)
        if fault is None:
            return action()
        if fault is Fault.LOST_ACK:
            action()
        raise self._error(fault, operation, key)

    def _begin(self, operation: Operation, key: str) -> Fault | None:
        """The fault this call meets; a call that does not reach the inner store is not counted."""
        with self._lock:
            if self._crash_after is not None and len(self.operations) >= self._crash_after:
                raise SimulatedCrash(f"before {operation} {key}")
            fault = self._next_fault(operation, key)
            if fault in (None, Fault.LOST_ACK, Fault.CUT_SHORT):
                self.operations.append((operation, key))
            return fault

    def _next_fault(self, operation: Operation, key: str) -> Fault | None:
        for index, rule in enumerate(self._script):
            if rule.operation == operation and rule.key in key:
                self._met[index] += 1
                nth = self._met[index] - rule.skip
                if nth > 0 and (rule.times is None or nth <= rule.times):
                    return rule.fault
        return None

    def _error(self, fault: Fault, operation: Operation, key: str) -> RepositoryError:
        kind = AccessDenied if fault is Fault.DENIED else StoreUnavailable
        return kind(
            f"repository {self.name}: cannot {operation} {key}: {fault.value}", hint="a test did this"
        )


class _FaultyWriter:
    def __init__(self, store: FaultyStore, key: str, inner: MultipartWriter) -> None:
        self.min_part_size = inner.min_part_size
        self._store = store
        self._key = key
        self._inner = inner

    def write_part(self, number: int, data: bytes) -> None:
        self._store.perform("write_part", self._key, lambda: self._inner.write_part(number, data))

    def complete(self) -> ObjectInfo:
        return self._store.perform("complete", self._key, self._inner.complete)

    def abort(self) -> None:
        self._store.perform("abort", self._key, self._inner.abort)
