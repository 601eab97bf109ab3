"""What ``app`` builds for a prune."""

from __future__ import annotations

from dataclasses import fields

from etcdguard.app import App
from etcdguard.config.schema import Repository, Retention
from etcdguard.errors import ConfigError
from etcdguard.prune import Limits, Pruner
from etcdguard.retention import Policy

__all__ = ["pruners"]


def pruners(app: App, name: str | None, max_fraction: float | None) -> list[Pruner]:
    """A pruner of each configured repository, or of the one called ``name``; retention is configured."""
    retention = app.config.retention
    if retention is None:
        raise ConfigError("no retention is configured", hint="add a `retention:` section")
    policy = _policy(retention)
    limits = Limits(max_fraction=retention.max_fraction if max_fraction is None else max_fraction)

    def pruner(repository: Repository) -> Pruner:
        store = app.store(repository)
        catalog = app.catalog_of(store)
        return Pruner(
            catalog,
            store,
            policy,
            must_be_signed=bool(app.config.signing.key_file or app.config.signing.trusted_signers),
            record=lambda facts: app.record(catalog, "prune", facts),
            limits=limits,
        )

    return [pruner(repository) for repository in app.repositories(name)]


def _policy(retention: Retention) -> Policy:
    return Policy(**{each.name: getattr(retention, each.name) for each in fields(Policy)})
