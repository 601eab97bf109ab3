"""The restores a machine knows of, from the journals it keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from etcdguard.restore import host_state, plan_state
from etcdguard.restore.journal import Journal
from etcdguard.restore.node import JOURNAL as HOST_JOURNAL
from etcdguard.restore.orchestrate import JOURNAL

__all__ = ["known_plans"]


def known_plans(state_dir: Path, now: Callable[[], datetime]) -> tuple[dict[str, Any], ...]:
    """Each plan, oldest first: its phase as ``orchestrated`` from here, and of this ``host``; None if not."""
    plans = []
    for folder in sorted(state_dir.glob("*/")):
        orchestrated = Journal(folder / JOURNAL, now).events()
        here = Journal(folder / HOST_JOURNAL, now).events()
        plans.append(
            {
                "plan": folder.name,
                "orchestrated": plan_state.fold(orchestrated).phase if orchestrated else None,
                "host": host_state.fold(here).phase if here else None,
            }
        )
    return tuple(plans)
