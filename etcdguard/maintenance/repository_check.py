"""Prove with a canary object that a repository can do all that backups need, before one depends on it.

Only the ObjectStore seam is used, so the proof covers the store, the network, the credentials and our adapter
together. The canary lies under ``checks/`` beside the backups and is never taken for one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timezone

from etcdguard.errors import AccessDenied, EtcdGuardError, ObjectExists, ObjectNotFound, RepositoryError
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.storage.base import ObjectStore

__all__ = ["check_repository"]

_CANARY_BYTES = 4096
_OFFSET, _LENGTH = 1000, 500


def check_repository(
    store: ObjectStore, prefix: str, *, now: datetime, rng: random.Random | None = None
) -> list[CheckResult]:
    """One line per step, in order; a step that raises is a FAIL, and without a canary the rest is left out.

    ``prefix`` is the cluster's folder, without a slash at its end. The canary is removed whatever happens;
    where the store refuses that, a line says so and names it.
    """
    rng = rng or random.SystemRandom()
    stamp = now.astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    key = f"{prefix}/checks/{stamp}-{rng.getrandbits(32):08x}"
    canary = _Canary(store, key, rng.getrandbits(8 * _CANARY_BYTES).to_bytes(_CANARY_BYTES, "big"))
    try:
        results = [canary.result("write", canary.write)]
        if results[0].outcome is Outcome.OK:
            results += [canary.result(name, step) for name, step in canary.proofs()]
    finally:
        removed = canary.result("delete", canary.delete)
    if removed.outcome is Outcome.OK and results[0].outcome is Outcome.FAIL:
        return results  # there was nothing to prove deletion with
    results.append(removed)
    if removed.outcome is Outcome.OK:
        results.append(canary.result("list-after-delete", canary.is_gone))
    return results


class _Wrong(Exception):
    """The store answered, and the answer is not what the seam promises."""

    def __init__(self, value: str, hint: str, outcome: Outcome = Outcome.FAIL) -> None:
        super().__init__(value)
        self.value = value
        self.hint = hint
        self.outcome = outcome


class _Canary:
    """One object and the steps it goes through. A step returns what it saw, or raises."""

    def __init__(self, store: ObjectStore, key: str, data: bytes) -> None:
        self._store = store
        self._key = key
        self._data = data

    def result(self, name: str, step: Callable[[], str]) -> CheckResult:
        """Run a step and report it under ``repository.<store>.<step>``."""
        name = f"repository.{self._store.name}.{name}"
        try:
            return CheckResult(name, Outcome.OK, step())
        except _Wrong as e:
            return CheckResult(name, e.outcome, e.value, hint=e.hint, error=RepositoryError)
        except EtcdGuardError as e:
            return CheckResult(name, Outcome.FAIL, e.message, hint=e.hint, error=RepositoryError)

    def proofs(self) -> list[tuple[str, Callable[[], str]]]:
        """The steps between writing and deleting; none depends on the one before."""
        return [
            ("create-only", self.create_only),
            ("read", self.read),
            ("range", self.read_range),
            ("list", self.is_listed),
            ("multipart", self.multipart),
        ]

    def write(self) -> str:
        self._store.put(self._key, self._data, create_only=True)
        return f"{len(self._data)} bytes"

    def create_only(self) -> str:
        try:
            self._store.put(self._key, b"overwritten", create_only=True)
        except ObjectExists:
            return "a second writer is refused"
        self._store.put(self._key, self._data)  # so that the next steps test what they are named for
        raise _Wrong(
            "a second writer overwrote the object: the store ignores If-None-Match",
            "use a store with conditional writes; conditional_writes: emulated is safe for one writer only",
        )

    def read(self) -> str:
        self._expect(b"".join(self._store.get(self._key)), self._data)
        return "all bytes as written"

    def read_range(self) -> str:
        got = b"".join(self._store.get(self._key, offset=_OFFSET, length=_LENGTH))
        self._expect(got, self._data[_OFFSET : _OFFSET + _LENGTH])
        return f"bytes {_OFFSET} to {_OFFSET + _LENGTH - 1} as written"

    def is_listed(self) -> str:
        if not self._listed():
            raise _Wrong(
                "the object is not listed after it was written", "use a store with consistent listing"
            )
        return "the object is listed"

    def multipart(self) -> str:
        key = f"{self._key}-multipart"
        upload = self._store.multipart(key)
        try:
            upload.write_part(1, self._data)
        finally:
            upload.abort()
        try:
            self._store.head(key)
        except ObjectNotFound:
            return "an upload can be begun and aborted"
        raise _Wrong(f"{key} exists although its upload was aborted", "delete it and report this store")

    def delete(self) -> str:
        try:
            self._store.delete(self._key)
        except AccessDenied as e:
            raise _Wrong(
                f"deletion is denied; {self._key} is left behind",
                "backups work, but prune needs permission to delete",
                Outcome.WARN,
            ) from e
        return "the object was deleted"

    def is_gone(self) -> str:
        if self._listed():
            raise _Wrong(
                "the object is still listed after it was deleted", "use a store with consistent listing"
            )
        return "the object is no longer listed"

    def _listed(self) -> bool:
        return any(info.key == self._key for info in self._store.list(self._key))

    def _expect(self, got: bytes, wanted: bytes) -> None:
        if got != wanted:
            raise _Wrong(
                f"{len(got)} bytes came back that are not the {len(wanted)} written",
                "something between here and the store changes data; check proxies and the endpoint_url",
            )
