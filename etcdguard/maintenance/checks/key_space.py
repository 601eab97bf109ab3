"""Reads all keys of one member in pages, for the sizes of their values. Keeps only totals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from etcdguard.maintenance.checks.facts import KeySpace

__all__ = ["KeySource", "prefix_of", "read_key_space"]

_PAGE_KEYS = 50
"""Values may be up to 1.5 MiB each."""

_PARTS = 2


class KeySource(Protocol):
    """A member whose keys can be listed; ``etcd.client.EtcdClient`` is one."""

    def entries(self, endpoint: str, start: bytes, limit: int) -> Sequence[tuple[bytes, int]]:
        """At most ``limit`` keys from ``start`` on, in order, with their values' sizes in bytes."""


def read_key_space(source: KeySource, endpoint: str) -> KeySpace:
    """Sizes of keys and values together, by prefix. Raises the source's errors."""
    prefixes: defaultdict[str, int] = defaultdict(int)
    largest: tuple[int, bytes] = (0, b"")
    start = b"\0"
    while True:
        page = source.entries(endpoint, start, _PAGE_KEYS)
        for key, size in page:
            prefixes[prefix_of(key)] += len(key) + size
            largest = max(largest, (size, key))
        if len(page) < _PAGE_KEYS:
            break
        start = page[-1][0] + b"\0"
    prefix = max(prefixes, key=lambda one: prefixes[one], default="")
    return KeySpace(
        largest_key=largest[1].decode(errors="backslashreplace"),
        largest_bytes=largest[0],
        largest_prefix=prefix,
        prefix_bytes=prefixes.get(prefix, 0),
        total_bytes=sum(prefixes.values()),
    )


def prefix_of(key: bytes) -> str:
    """The first two parts of a path: of ``/registry/pods/default/web``, ``/registry/pods``.

    A key that is no path, or whose parts number fewer, stands for itself up to its last part.
    """
    text = key.decode(errors="backslashreplace")
    lead = "/" if text.startswith("/") else ""
    parts = text.removeprefix("/").split("/")
    return lead + "/".join(parts[: min(_PARTS, max(1, len(parts) - 1))])
