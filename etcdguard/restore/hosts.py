"""A host of the restore: somewhere a step can be run. This machine is one; ``restore.ssh`` has the others."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from etcdguard.errors import Interrupted
from etcdguard.restore.node import Node
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.steps import StepAnswer, StepProgress, StepRequest
from etcdguard.restore.telling import Tell

__all__ = ["Host", "LocalHost", "Site", "sites_of"]


class Host(Protocol):
    """One machine. A step may be sent again at any time: it goes on where it was, or confirms."""

    @property
    def name(self) -> str:
        """As the plan calls it."""

    def run(self, request: StepRequest, timeout: float, tell: Tell | None = None) -> StepAnswer:
        """Run a step to its end, in at most ``timeout`` seconds, or so long after it last told its progress.

        A step that failed is an answer. Raises EtcdGuardError when there is none; what the step has done by
        then is not known.
        """

    def interrupt(self) -> None:
        """Ask a running step to end early where it safely can. From any thread, and more than once."""

    def close(self) -> None:
        """Let go of connections; a later step makes new ones."""


class LocalHost:
    """This machine, in this process."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self._node = node
        self._cut_short = threading.Event()

    def run(self, request: StepRequest, timeout: float, tell: Tell | None = None) -> StepAnswer:
        """See Host; the steps have limits of their own."""
        del timeout

        def telling(progress: StepProgress) -> None:
            if self._cut_short.is_set():
                raise Interrupted("interrupted", hint="run the same command again")
            if tell is not None:
                tell(progress)

        try:
            return self._node.answer(request, telling)
        finally:
            self._cut_short.clear()

    def interrupt(self) -> None:
        """See Host: a step ends where it tells its progress; any other is left to finish."""
        self._cut_short.set()

    def close(self) -> None:
        """See Host."""


@dataclass(frozen=True)
class Site:
    """A host and the plan's members that live on it."""

    host: Host
    members: tuple[str, ...]


def sites_of(
    plan: RestorePlan, here: str | None, host: Callable[[str, Sequence[str]], Host]
) -> tuple[Site, ...]:
    """The plan's hosts in order; ``host`` makes one from its name in the plan and its members' names.

    ``here`` is this machine's name, for members of unknown host; None leaves those out.
    """
    members: dict[str, list[str]] = {}
    for member in plan.members:
        name = member.host or here
        if name is not None:
            members.setdefault(name, []).append(member.name)
    return tuple(Site(host(name, names), tuple(names)) for name, names in members.items())
