"""The arithmetic of etcd's member and cluster ids, and the one spelling of a peer URL. Pure.

etcd derives ids from text: a member's id is the first eight bytes of the SHA-1 of its sorted peer URLs
followed by the cluster token, a cluster's id that of its members' ids in ascending order. The spelling of a
URL therefore decides an id, and members restored with different spellings never find each other. So URLs are
brought to one spelling here, once, and distributed verbatim.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from etcdguard.errors import ConfigError
from etcdguard.model import hex_id

__all__ = [
    "Peer",
    "Prediction",
    "canonical_host",
    "canonical_url",
    "canonical_urls",
    "in_url",
    "initial_cluster",
    "predict",
]

_HOST_NAME = re.compile(r"^(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?$")
_MEMBER_NAME = re.compile(r"^[^\s,=]+$")


class Peer(Protocol):
    """A member as the other members address it; ``model.Member`` is one."""

    @property
    def name(self) -> str:
        """The member's name (``etcd --name``)."""

    @property
    def peer_urls(self) -> tuple[str, ...]:
        """Its peer URLs in any spelling and order."""


@dataclass(frozen=True)
class Prediction:
    """The ids a restore with these members and this token will write, as etcdctl prints them."""

    cluster_id: str
    member_ids: Mapping[str, str]
    """Member name to member id."""


def canonical_url(text: str) -> str:
    """``text`` in the one spelling used everywhere: lower case, shortest IPv6 form, no trailing slash.

    Raises ConfigError for what etcd refuses (no port, a path, a scheme other than http or https) and for what
    it takes but no other host could reach (an empty host, credentials, unix sockets).
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as e:
        raise _bad_url(text, str(e)) from e
    if parts.scheme not in ("http", "https"):
        raise _bad_url(text, "the scheme is neither http nor https")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _bad_url(text, "there is more than scheme, host and port")
    if not port:
        raise _bad_url(text, "the port is missing")
    try:
        host = canonical_host(parts.hostname or "")
    except ValueError as e:
        raise _bad_url(text, str(e)) from e
    return f"{parts.scheme}://{in_url(host)}:{port}"


def canonical_host(host: str) -> str:
    """A name in lower case, or an address in its shortest form, IPv6 without brackets.

    Raises ValueError that says why it is neither.
    """
    if ":" in host:
        if "%" in host:
            raise ValueError("an IPv6 zone means something else on every host")
        return str(ipaddress.IPv6Address(host))
    if host.replace(".", "").isdigit():
        return str(ipaddress.IPv4Address(host))
    if not _HOST_NAME.match(host.lower()):
        raise ValueError(f"{host!r} is not a host name" if host else "the host is missing")
    return host.lower()


def in_url(host: str) -> str:
    """A canonical host as a URL has it: IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


def canonical_urls(urls: Iterable[str]) -> tuple[str, ...]:
    """All of one member's URLs, canonical and sorted as etcd sorts them before hashing."""
    return tuple(sorted(canonical_url(url) for url in urls))


def initial_cluster(members: Sequence[Peer]) -> str:
    """The value of ``--initial-cluster``: identical for every member, ordered by name.

    Raises ConfigError when etcd would refuse it, or would read it differently than meant.
    """
    peers = _checked(members)
    return ",".join(f"{name}={url}" for name in sorted(peers) for url in peers[name])


def predict(members: Sequence[Peer], token: str) -> Prediction:
    """The ids ``etcdutl snapshot restore`` will write for these members and ``--initial-cluster-token``."""
    ids = {name: _member_id(urls, token) for name, urls in _checked(members).items()}
    cluster = _first_word(b"".join(number.to_bytes(8, "big") for number in sorted(ids.values())))
    return Prediction(hex_id(cluster), {name: hex_id(number) for name, number in ids.items()})


def _member_id(canonical_urls: tuple[str, ...], token: str) -> int:
    return _first_word(("".join(canonical_urls) + token).encode())


def _first_word(data: bytes) -> int:
    digest = hashlib.sha1(data, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big")


def _checked(members: Sequence[Peer]) -> dict[str, tuple[str, ...]]:
    """Names to canonical URLs, in the given order; refuses what cannot become a cluster."""
    if not members:
        raise ConfigError("the cluster has no members", hint="list at least one member with its peer URLs")
    for member in members:
        if not _MEMBER_NAME.match(member.name):
            raise ConfigError(
                f"member name {member.name!r} cannot stand in --initial-cluster",
                hint="use the name the member has in etcd, without spaces, commas and equals signs",
            )
        if not member.peer_urls:
            raise ConfigError(
                f"member {member.name} has no peer URL", hint="give every member at least one peer URL"
            )
    _refuse_duplicates("member name", [member.name for member in members])
    peers = {member.name: canonical_urls(member.peer_urls) for member in members}
    _refuse_duplicates("peer URL", [url for urls in peers.values() for url in urls])
    return peers


def _refuse_duplicates(what: str, values: list[str]) -> None:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if repeated:
        raise ConfigError(
            f"{what} {repeated[0]} appears twice", hint=f"every {what} belongs to exactly one member, once"
        )


def _bad_url(text: str, why: str) -> ConfigError:
    return ConfigError(f"peer URL {text!r} cannot be used: {why}", hint="write it as https://host:2380")
