"""What a restore will stop, where and in which order, and for how long: told before anybody agrees. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from etcdguard.restore.plan import RestorePlan

__all__ = ["Downtime", "HostStops", "Outlook", "outlook"]

_MEASURED = 5
"""So many of the latest restores are looked at: the cluster grows, and hosts are replaced."""

# Beside the swap, which is a rename: stopping and starting, an election, and the proof. Staging is over by
# then. Rough on purpose, and above what three small machines take with units. The kubelet looks at its
# manifests every 20 s and is waited for four times: what uses etcd, then etcd, stop; and both start again.
_UNITS_SECONDS = 20.0
_PODS_SECONDS = 80.0
_BYTES_PER_SECOND = 100 * 1024 * 1024
"""etcd reads its whole database to build its index, and once more to hash it for the proof: at this rate."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class HostStops(_Fact):
    """One host. All of ``first`` stops on all hosts before any ``etcd`` does, and starts after it."""

    host: str
    members: tuple[str, ...]
    first: tuple[str, ...]
    """Units and manifests of what uses etcd, in order; empty where none is known."""
    etcd: tuple[str, ...]
    """Units and manifests of the members; empty where the operator stops and starts etcd."""


class Downtime(_Fact):
    """An estimate, from the first thing stopped until everything is open again."""

    seconds: float
    basis: str
    """What the estimate rests on, in words."""


class Outlook(_Fact):
    """What to expect of a plan."""

    stops: tuple[HostStops, ...]
    downtime: Downtime | None
    """None where the operator stops and starts etcd, and so decides."""


def outlook(plan: RestorePlan, past: Iterable[Mapping[str, Any]]) -> Outlook:
    """``past``: the facts of earlier restores of the cluster, oldest first, as its audit trail has them."""
    hosts: dict[str, list[str]] = {}
    for member in plan.members:
        hosts.setdefault(member.host or f"the host of {member.name}", []).append(member.name)
    return Outlook(
        stops=tuple(_stops(plan, host, names) for host, names in hosts.items()),
        downtime=_downtime(plan, past) if all(member.service for member in plan.members) else None,
    )


def _stops(plan: RestorePlan, host: str, names: list[str]) -> HostStops:
    members = [plan.member(name) for name in names]
    served = [member for member in members if member.service is not None]
    return HostStops(
        host=host,
        members=tuple(names),
        first=tuple(dict.fromkeys(name for member in served for name in member.clients.names)),
        etcd=tuple(member.service.name for member in served if member.service is not None),
    )


def _downtime(plan: RestorePlan, past: Iterable[Mapping[str, Any]]) -> Downtime:
    measured = [
        float(seconds)
        for facts in past
        if isinstance(seconds := facts.get("downtime_seconds"), int | float)
        and seconds > 0
        and facts.get("proof")  # else nobody started the cluster, and nothing was measured
        and len(facts.get("members", ())) == len(plan.members)
    ][-_MEASURED:]
    if measured:
        count = (
            "the last restore" if len(measured) == 1 else f"the slowest of the last {len(measured)} restores"
        )
        return Downtime(
            seconds=max(measured), basis=f"{count} of this cluster with {len(plan.members)} members"
        )
    pods = any(member.service is not None and member.service.manifest for member in plan.members)
    mebibytes = -(-plan.db_bytes // (1024 * 1024))
    return Downtime(
        seconds=(_PODS_SECONDS if pods else _UNITS_SECONDS) + 2 * plan.db_bytes / _BYTES_PER_SECOND,
        basis=f"a guess from {mebibytes} MiB of database and from how {'pods' if pods else 'units'} stop and "
        "start: no restore of this cluster has been measured yet",
    )
