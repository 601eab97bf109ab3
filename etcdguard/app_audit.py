"""What ``app`` builds for audits, and for looking at all clusters of a repository."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from etcdguard.app import App
from etcdguard.audit.case import Case, Expectation
from etcdguard.audit.document import audited, report
from etcdguard.audit.facts import RepositoryFacts
from etcdguard.audit.gather import gather
from etcdguard.audit.history import tell
from etcdguard.audit.period import Span
from etcdguard.catalog import Catalog, Listing
from etcdguard.catalog.fleet import clusters
from etcdguard.config.schema import Repository
from etcdguard.errors import EtcdGuardError, RepositoryError
from etcdguard.log import get_logger
from etcdguard.storage.base import RepositoryStore

__all__ = ["audit", "list_fleet"]

_log = get_logger()

_CLUSTERS_AT_ONCE = 2
"""Each reads many objects at once by itself."""

_Shape = TypeVar("_Shape")


def list_fleet(
    app: App, repository: str | None, shape: Callable[[str, Listing], Sequence[_Shape]]
) -> list[_Shape]:
    """Every cluster's listing in the first repository that answers; only its ``shape`` is kept."""
    trusted = app.trusted_signers

    def listed(store: RepositoryStore, name: str) -> Sequence[_Shape]:
        return shape(name, Catalog(store, name, trusted).list())

    def use(store: RepositoryStore) -> list[_Shape]:
        with ThreadPoolExecutor(_CLUSTERS_AT_ONCE) as pool:
            parts = pool.map(partial(listed, store), clusters(store))
            return [one for part in parts for one in part]

    return app.first_store(repository, use)


def audit(
    app: App,
    period: Span,
    now: datetime,
    *,
    repository: str | None,
    rpo: timedelta | None,
    every_cluster: bool = False,
) -> dict[str, Any]:
    """The report of the configured cluster, or of all. Raises a repository's error where none can be read."""
    names = _every_cluster(app, repository) if every_cluster else [app.config.cluster.name]
    found = [_audited(app, name, period, now, repository, rpo) for name in names]
    return report(found, period, now, app.tool)


def _every_cluster(app: App, repository: str | None) -> list[str]:
    """Those of every repository that answers; what one that does not is missing is told of each cluster."""
    names: set[str] = set()
    errors: list[EtcdGuardError] = []
    for one in app.repositories(repository):
        try:
            names.update(clusters(app.store(one)))
        except RepositoryError as error:
            errors.append(error)
            _log.warning("repository.failed", repository=one.name, error=error.message)
    if not names and errors:
        raise errors[0]
    return sorted(names)


def _audited(
    app: App, cluster: str, period: Span, now: datetime, repository: str | None, rpo: timedelta | None
) -> dict[str, Any]:
    failed: list[EtcdGuardError] = []

    def ask(one: Repository) -> RepositoryFacts:
        store = app.store(one)
        try:
            catalog = Catalog(store, cluster, app.trusted_signers)
            return gather(catalog, store, period, now, app.lock_rule(one))
        except EtcdGuardError as error:
            failed.append(error)
            return RepositoryFacts(one.name, error=error.message)

    repositories = app.repositories(repository)
    with ThreadPoolExecutor(max(1, len(repositories))) as pool:
        facts = list(pool.map(ask, repositories))
    if failed and len(failed) == len(facts):
        raise failed[0]
    expectation = Expectation(
        promise=app.promise() if cluster == app.config.cluster.name else None,
        must_be_signed=app.config.signing.required,
        rpo=rpo,
    )
    return audited(Case(cluster, period, now, expectation, tuple(tell(one) for one in facts)))
