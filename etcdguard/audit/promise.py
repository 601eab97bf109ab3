"""What is promised of backups at a time: schedules, retention, recipients. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from etcdguard.retention import Policy
from etcdguard.slots import Schedule, parse_schedule

__all__ = ["Promise"]


@dataclass(frozen=True)
class Promise:
    """As configured. The audit trail keeps it with every backup, so that old promises are known too."""

    schedules: Mapping[str, Schedule] = field(default_factory=dict)
    """Of ``backup``, ``data`` (verification), ``drill`` and ``prune``, those that have one."""
    retention: Policy | None = None
    """None: everything is kept."""
    recipients: tuple[str, ...] = ()
    """Fingerprints; none: backups are not encrypted."""

    @property
    def facts(self) -> dict[str, Any]:
        """As the trail keeps it."""
        return {
            "schedules": {name: list(one.text) for name, one in self.schedules.items()},
            "retention": None if self.retention is None else self.retention.facts,
            "recipients": list(self.recipients),
        }

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Promise | None:
        """What the trail kept; None for what this version cannot read."""
        try:
            retention = facts["retention"]
            return cls(
                {name: parse_schedule(texts) for name, texts in facts["schedules"].items()},
                None if retention is None else Policy.from_facts(retention),
                tuple(facts["recipients"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
