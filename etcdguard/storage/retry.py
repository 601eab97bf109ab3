"""Retries as a wrapper: full-jitter exponential backoff within a budget, for any store.

Only StoreUnavailable is retried: every other error is an answer.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from etcdguard.errors import ObjectExists, StoreUnavailable
from etcdguard.storage.base import Lock, MultipartWriter, ObjectInfo, RepositoryStore, StaleUpload

__all__ = ["RetryPolicy", "RetryingStore"]

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """How long to insist. All times in seconds."""

    attempts: int = 10
    """Calls per operation, the first included."""
    budget: float = 120.0
    """No further attempt begins later than this after the operation began (or last made progress)."""
    first_delay: float = 0.2
    """Upper end of the first pause; it doubles with every attempt."""
    longest_delay: float = 20.0

    def pause(self, failures: int, rng: random.Random) -> float:
        """Full jitter: anywhere between nothing and the exponential delay, so that clients spread out."""
        return rng.uniform(0, min(self.longest_delay, self.first_delay * 2.0 ** (failures - 1)))


class _Patience:
    """What is left of attempts and budget in one operation."""

    def __init__(self, store: RetryingStore) -> None:
        self._store = store
        self.progress()

    def progress(self) -> None:
        """Something got through: begin anew."""
        self._failures = 0
        self._began = self._store.clock()

    def after(self, error: StoreUnavailable) -> None:
        """Sleep before the next attempt, or raise the error when attempts or budget are used up."""
        self._failures += 1
        policy = self._store.policy
        pause = policy.pause(self._failures, self._store.rng)
        elapsed = self._store.clock() - self._began
        if self._failures >= policy.attempts or elapsed + pause > policy.budget:
            tried = f"gave up after {self._failures} attempts in {elapsed:.0f} s"
            raise StoreUnavailable(f"{error.message} ({tried})", hint=error.hint) from error
        self._store.sleep(pause)


class RetryingStore:
    """``inner`` with patience; see RetryPolicy. ``sleep``, ``clock`` and ``rng`` are replaced by tests."""

    def __init__(
        self,
        inner: RepositoryStore,
        policy: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = inner.name
        self.policy = policy or RetryPolicy()
        self.sleep = sleep
        self.rng = rng or random.SystemRandom()
        self.clock = clock
        self._inner = inner

    def put(self, key: str, data: bytes, *, create_only: bool = False) -> None:
        """See ObjectStore. A create-only write whose answer was lost is known by its own bytes at the key."""
        patience = _Patience(self)
        ambiguous = False
        while True:
            try:
                return self._inner.put(key, data, create_only=create_only)
            except StoreUnavailable as e:
                ambiguous = True
                patience.after(e)
            except ObjectExists:
                if ambiguous and self._holds(key, data):
                    return None
                raise

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """See ObjectStore. A body that breaks off is taken up again where it ended."""
        patience = _Patience(self)
        delivered = 0
        while True:
            left = None if length is None else length - delivered
            try:
                for piece in self._inner.get(key, offset=offset + delivered, length=left):
                    delivered += len(piece)
                    yield piece
                    patience.progress()  # only now: the reader's own time is not on our budget
            except StoreUnavailable as e:
                patience.after(e)
            else:
                return

    def head(self, key: str) -> ObjectInfo:
        """See ObjectStore."""
        return self.insist(lambda: self._inner.head(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """See ObjectStore. Begun anew after a fault: half a listing is never handed out."""
        return self.insist(lambda: iter(tuple(self._inner.list(prefix))))

    def folders(self, prefix: str) -> Sequence[str]:
        """See Surveyor."""
        return self.insist(lambda: self._inner.folders(prefix))

    def delete(self, key: str) -> None:
        """See ObjectStore."""
        self.insist(lambda: self._inner.delete(key))

    def multipart(self, key: str) -> MultipartWriter:
        """See ObjectStore. An upload begun but not acknowledged is left to the janitor."""
        return _RetryingWriter(self, self.insist(lambda: self._inner.multipart(key)))

    def stale_uploads(self, prefix: str) -> Sequence[StaleUpload]:
        """See UploadJanitor."""
        return self.insist(lambda: self._inner.stale_uploads(prefix))

    def abort_upload(self, upload: StaleUpload) -> None:
        """See UploadJanitor."""
        self.insist(lambda: self._inner.abort_upload(upload))

    def lock(self, key: str) -> Lock | None:
        """See Custodian."""
        return self.insist(lambda: self._inner.lock(key))

    def time(self) -> datetime | None:
        """See Custodian."""
        return self.insist(self._inner.time)

    def insist(self, operation: Callable[[], T]) -> T:
        """Call an idempotent operation until it answers or patience is out."""
        patience = _Patience(self)
        while True:
            try:
                return operation()
            except StoreUnavailable as e:
                patience.after(e)

    def _holds(self, key: str, data: bytes) -> bool:
        return self.head(key).size == len(data) and b"".join(self.get(key)) == data


class _RetryingWriter:
    def __init__(self, store: RetryingStore, inner: MultipartWriter) -> None:
        self.min_part_size = inner.min_part_size
        self._store = store
        self._inner = inner

    def write_part(self, number: int, data: bytes) -> None:
        self._store.insist(lambda: self._inner.write_part(number, data))

    def complete(self) -> ObjectInfo:
        return self._store.insist(self._inner.complete)

    def abort(self) -> None:
        self._store.insist(self._inner.abort)
