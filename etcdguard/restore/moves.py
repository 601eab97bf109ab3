"""Members whose machines were rebuilt: the same names, at other hosts (``--map OLD=NEW``). Pure.

A host is a name or an address, compared in its canonical spelling. All moves are made at once, so that hosts
may also change places.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from etcdguard.errors import UsageError
from etcdguard.etcd.topology import canonical_host, canonical_urls, in_url
from etcdguard.restore.member_spec import MemberSpec

__all__ = ["advice", "move", "read_moves"]

_URL_DESTINATION = re.compile(r"(ssh://(?:[^@]*@)?)(\[[^\]]*\]|[^:/]*)(.*)")
_DESTINATION = re.compile(r"((?:.*@)?)(.*)()")


def read_moves(texts: Sequence[str]) -> dict[str, str]:
    """Old hosts to new ones, canonical, from ``OLD=NEW`` each; raises UsageError."""
    moves: dict[str, str] = {}
    for text in texts:
        old, _, new = text.partition("=")
        try:
            before, after = (canonical_host(_bare(host)) for host in (old, new))
        except ValueError as e:
            raise UsageError(
                f"--map {text!r} is not OLD=NEW: {e}",
                hint="give hosts, without scheme, port and user: --map 10.0.0.1=10.0.0.11",
            ) from e
        if before in moves:
            raise UsageError(f"--map says twice where {before} moves", hint="give each old host once")
        moves[before] = after
    return moves


def move(specs: Sequence[MemberSpec], moves: Mapping[str, str]) -> list[MemberSpec]:
    """The members where they will be. Raises UsageError for moves that do not fit them."""
    known = {host for spec in specs for host in _hosts(spec)}
    for old, new in moves.items():
        if old not in known:
            raise UsageError(
                f"--map {old}={new}: no member is at {old}",
                hint=f"give a host as the plan without --map shows it: {', '.join(sorted(known))}",
            )
    moved = [_moved(spec, moves) for spec in specs]
    for spec, now in zip(specs, moved, strict=True):
        _check_reached(spec, now, moves)
    counts = Counter(url for spec in moved for url in canonical_urls(spec.peer_urls)) if moves else {}
    for url in (url for url, count in counts.items() if count > 1):
        names = [spec.name for spec in moved if url in canonical_urls(spec.peer_urls)]
        raise UsageError(
            f"--map gives {' and '.join(dict.fromkeys(names))} the peer URL {url} twice",
            hint="map each old host to a new one of its own",
        )
    return moved


def advice(before: Sequence[MemberSpec], after: Sequence[MemberSpec]) -> Iterator[str]:
    """What the operator should know about members that move, a sentence each."""
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    if not moved:
        return
    for old, new in moved:
        yield f"{new.name} moves: {_addresses(old)} becomes {_addresses(new)}."
    yield (
        "On the new hosts --listen-peer-urls, --listen-client-urls and --advertise-client-urls in etcd's "
        "unit or manifest must fit the new addresses; etcd ignores its --initial-* flags on restored data."
    )
    if any(url.startswith("https://") for _, new in moved for url in (*new.peer_urls, *new.client_urls)):
        yield "etcd's certificates on the new hosts must name the new addresses (subject alternative names)."
    yield "Nothing is stopped on the old hosts: see that their etcd never serves clients again."
    yield (
        "Afterwards give the new addresses to everything that knows the old ones: clients (kube-apiserver "
        "--etcd-servers), and etcdguard's own configuration."
    )


def _moved(spec: MemberSpec, moves: Mapping[str, str]) -> MemberSpec:
    return replace(
        spec,
        peer_urls=tuple(_moved_url(url, moves) for url in spec.peer_urls),
        client_urls=tuple(_moved_url(url, moves) for url in spec.client_urls),
        host=None if spec.host is None else _moved_destination(spec.host, moves),
        ssh=None if spec.ssh is None else _moved_destination(spec.ssh, moves),
    )


def _check_reached(spec: MemberSpec, now: MemberSpec, moves: Mapping[str, str]) -> None:
    """A member that is elsewhere must not be restored on its old machine, which a name may still lead to."""
    if (spec.peer_urls, spec.client_urls) == (now.peer_urls, now.client_urls):
        return
    for key, text in (("host", spec.host), ("ssh", spec.ssh)):
        if text is None:
            continue
        host = _host(_split(text)[1])
        if host is None or host not in moves:
            raise UsageError(
                f"{spec.name} moves, but its {key} {text} may still lead to the old machine",
                hint=f"add --map {host}=NEW, or --map {host}={host} if that leads to the new one by now"
                if host is not None
                else f"change {key} of {spec.name} in the configuration",
            )


def _hosts(spec: MemberSpec) -> Iterator[str]:
    urls = (urlsplit(url).hostname or "" for url in (*spec.peer_urls, *spec.client_urls))
    names = (_split(text)[1] for text in (spec.host, spec.ssh) if text is not None)
    for host in map(_host, (*urls, *names)):
        if host is not None:
            yield host


def _moved_url(url: str, moves: Mapping[str, str]) -> str:
    parts = urlsplit(url)
    old = _host(parts.hostname or "")
    if old is None or old not in moves:
        return url
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{in_url(moves[old])}{port}{parts.path}"


def _moved_destination(text: str, moves: Mapping[str, str]) -> str:
    before, name, after = _split(text)
    host = _host(name)
    if host is None or host not in moves:
        return text
    return f"{before}{in_url(moves[host]) if before.startswith('ssh://') else moves[host]}{after}"


def _split(destination: str) -> tuple[str, str, str]:
    """What is before the host of an ssh destination, the host, and what is after it."""
    pattern = _URL_DESTINATION if destination.startswith("ssh://") else _DESTINATION
    match = pattern.fullmatch(destination)
    if match is None:
        return "", destination, ""
    before, host, after = match.groups()
    return before, host, after


def _host(text: str) -> str | None:
    """In its canonical spelling; None for what is no host, such as an ssh alias with odd characters."""
    try:
        return canonical_host(_bare(text))
    except ValueError:
        return None


def _bare(host: str) -> str:
    return host[1:-1] if host.startswith("[") and host.endswith("]") else host


def _addresses(spec: MemberSpec) -> str:
    place = f" on {spec.host}" if spec.host is not None else ""
    return ",".join(canonical_urls(spec.peer_urls)) + place
