"""Whether the old cluster still serves: then a restore would throw away what it has accepted since."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from etcdguard.errors import ClusterUnhealthy, EtcdUnreachable, Refused
from etcdguard.restore.machine import Machine

__all__ = ["answers", "live_quorum"]

_ALIVE = (
    "replace a lost member with `etcdguard member replace NAME`, which loses nothing; "
    "to roll the whole cluster back, stop every member or pass --i-know-quorum-is-alive"
)
_UNKNOWN = (
    "mend what keeps it from answering (load, credentials, certificates) and try again; "
    "if the cluster is lost, stop this member or pass --i-know-quorum-is-alive"
)


def live_quorum(
    endpoints: Iterable[str], linearizable_read: Callable[[str], None], machine: Machine
) -> Refused | None:
    """Why the cluster must be taken for alive; None when no endpoint has a quorum behind it.

    One that accepts connections but will not talk to us may well serve others, so it counts as alive; but it
    is no proof that a quorum is left, which replacing a member takes.
    """

    def ask(endpoint: str) -> Refused | None:
        try:
            linearizable_read(endpoint)
        except ClusterUnhealthy:
            return None
        except EtcdUnreachable as error:
            if not answers(endpoint, machine):
                return None
            return Refused(f"cannot tell whether the cluster is alive: {error.message}", hint=_UNKNOWN)
        return Refused(f"the cluster is alive: {endpoint} answers with a quorum behind it", hint=_ALIVE)

    wanted = tuple(dict.fromkeys(endpoints))
    if not wanted:
        return None
    with ThreadPoolExecutor(len(wanted)) as pool:
        reasons = [reason for reason in pool.map(ask, wanted) if reason is not None]
    return min(reasons, key=lambda reason: reason.hint != _ALIVE, default=None)  # a proof before a doubt


def answers(url: str, machine: Machine) -> bool:
    """Whether something accepts connections at that URL, with or without its scheme."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    return (
        parts.hostname is not None
        and parts.port is not None
        and machine.listening(parts.hostname, parts.port)
    )
