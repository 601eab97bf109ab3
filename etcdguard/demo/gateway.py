"""Keys and leases over etcd's JSON gateway: a witness that shares no code with the backup.

For the demo's own cluster only: plain HTTP on loopback, small answers.
"""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from etcdguard.errors import EtcdUnreachable

__all__ = ["Gateway", "Lease", "StoredKey"]

_TIMEOUT = 10.0


@dataclass(frozen=True)
class StoredKey:
    """Everything etcd knows of a key. ``lease_id`` 0 means none."""

    value: str
    create_revision: int
    mod_revision: int
    version: int
    lease_id: int


@dataclass(frozen=True)
class Lease:
    """A lease as it stands; times in seconds, and ``left`` is negative once it has expired."""

    id: int
    granted: int
    left: int
    keys: frozenset[str]


class Gateway:
    """One member. Reads are linearizable. Raises EtcdUnreachable when it does not do what is asked."""

    def __init__(self, url: str) -> None:
        self._url = url

    def put(self, key: str, value: str, lease_id: int = 0) -> int:
        """Write one key; returns the revision that made."""
        return self._write("kv/put", {"key": _text(key), "value": _text(value), "lease": lease_id})

    def delete(self, key: str) -> int:
        """Delete one key; returns the revision that made."""
        return self._write("kv/deleterange", {"key": _text(key)})

    def compact(self, revision: int) -> None:
        """Forget what was superseded before that revision, and wait until it is gone from the file."""
        self._post("kv/compaction", {"revision": revision, "physical": True})

    def keys(self, prefix: str) -> dict[str, StoredKey]:
        """Every live key with that (non-empty ASCII) prefix."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        answer = self._post("kv/range", {"key": _text(prefix), "range_end": _text(end)})
        return {_plain(item["key"]): _stored(item) for item in answer.get("kvs", [])}

    def grant(self, seconds: int) -> int:
        """A new lease; returns its id."""
        return int(self._post("lease/grant", {"TTL": seconds})["ID"])

    def lease(self, lease_id: int) -> Lease:
        """What is known of a lease, its keys included."""
        answer = self._post("lease/timetolive", {"ID": lease_id, "keys": True})
        keys = frozenset(map(_plain, answer.get("keys", [])))
        return Lease(lease_id, int(answer.get("grantedTTL", 0)), int(answer.get("TTL", 0)), keys)

    def _write(self, path: str, request: Mapping[str, Any]) -> int:
        return int(self._post(path, request)["header"]["revision"])

    def _post(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        hint = "this is the demo's own cluster: run it again with --keep and look at the members' logs"
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=_TIMEOUT)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(request))
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise EtcdUnreachable(f"{self._url}: {path} got no answer: {e}", hint=hint) from e
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK or not isinstance(answer, dict):
            raise EtcdUnreachable(f"{self._url}: {path} failed: {answer}", hint=hint)
        return answer


def _stored(item: Mapping[str, Any]) -> StoredKey:
    """64-bit numbers come as text, and zeros not at all."""
    return StoredKey(
        value=_plain(item.get("value", "")),
        create_revision=int(item["create_revision"]),
        mod_revision=int(item["mod_revision"]),
        version=int(item["version"]),
        lease_id=int(item.get("lease", 0)),
    )


def _text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _plain(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
