"""What ``app`` builds for a prune."""

from __future__ import annotations

from etcdguard.app import App
from etcdguard.config.schema import Repository
from etcdguard.errors import ConfigError
from etcdguard.prune import Limits, Pruner

__all__ = ["pruners"]


def pruners(app: App, name: str | None, max_fraction: float | None) -> list[Pruner]:
    """A pruner of each configured repository, or of the one called ``name``.

    Raises ConfigError where no retention is configured.
    """
    retention = app.config.retention
    if retention is None:
        raise ConfigError(
            "no retention is configured: everything is kept",
            hint="add a `retention:` section with keep_* rules",
        )
    limits = Limits(max_fraction=retention.max_fraction if max_fraction is None else max_fraction)

    def pruner(repository: Repository) -> Pruner:
        store = app.store(repository)
        catalog = app.catalog_of(store)
        return Pruner(
            catalog,
            store,
            retention.policy,
            must_be_signed=app.config.signing.required,
            record=lambda facts: app.record(catalog, "prune", facts),
            limits=limits,
        )

    return [pruner(repository) for repository in app.repositories(name)]
