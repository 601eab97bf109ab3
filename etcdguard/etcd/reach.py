"""Finding a member at one of its client URLs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from etcdguard.errors import EtcdGuardError, EtcdUnreachable
from etcdguard.model import MemberStatus

__all__ = ["reach"]


def reach(
    status: Callable[[str], MemberStatus], member_id: str, client_urls: Sequence[str]
) -> MemberStatus | EtcdGuardError:
    """The answer at the first URL that leads to that member, else the last thing that was seen.

    A URL may lead elsewhere: ``localhost`` does, on every other host.
    """
    seen: MemberStatus | EtcdGuardError = EtcdUnreachable(
        "has no known client URL", hint="set client_urls under `members` in the configuration"
    )
    for url in client_urls:
        try:
            seen = status(url)
        except EtcdGuardError as error:
            seen = error
        else:
            if seen.member_id == member_id:
                break
    return seen
