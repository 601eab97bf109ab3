"""What ``app`` builds for a drill."""

from __future__ import annotations

import tempfile
from pathlib import Path

from etcdguard.app import App
from etcdguard.catalog import Catalog
from etcdguard.drill import Drill
from etcdguard.progress import Progress
from etcdguard.restore.programs import Programs

__all__ = ["drill"]


def drill(
    app: App,
    catalog: Catalog,
    programs: Programs,
    base: Path | None,
    progress: Progress,
    identity_file: Path | None,
) -> Drill:
    """A drill of backups of this catalog, below ``base`` or else where temporary files go."""
    return Drill(
        catalog,
        lambda: app.identities(identity_file),
        programs,
        app.etcd_admin,
        base or Path(tempfile.gettempdir()),
        app.clock,
        progress,
    )
