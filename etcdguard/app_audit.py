"""What ``app`` builds for an audit: every repository asked, one cluster after the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from etcdguard.app import App
from etcdguard.audit.case import Case, Expectation
from etcdguard.audit.document import audited, report
from etcdguard.audit.facts import LockRule, RepositoryFacts
from etcdguard.audit.gather import gather
from etcdguard.audit.history import tell
from etcdguard.audit.period import Span
from etcdguard.catalog import Catalog
from etcdguard.config.schema import Repository
from etcdguard.errors import EtcdGuardError

__all__ = ["audit"]


def audit(
    app: App, period: Span, now: datetime, *, repository: str | None, rpo: timedelta | None
) -> dict[str, Any]:
    """The report of the configured cluster. Raises the repository's error where none can be read."""
    names = [app.config.cluster.name]
    return report(
        [_audited(app, name, period, now, repository, rpo) for name in names], period, now, app.tool
    )


def _audited(
    app: App, cluster: str, period: Span, now: datetime, repository: str | None, rpo: timedelta | None
) -> dict[str, Any]:
    failed: list[EtcdGuardError] = []

    def ask(one: Repository) -> RepositoryFacts:
        store = app.store(one)
        lock = None if one.s3 is None or one.s3.object_lock is None else one.s3.object_lock
        rule = None if lock is None else LockRule(lock.mode, lock.days)
        try:
            catalog = Catalog(store, cluster, app.trusted_signers)
            return gather(catalog, store, period, now, rule)
        except EtcdGuardError as error:
            failed.append(error)
            return RepositoryFacts(one.name, error=error.message)

    repositories = app.repositories(repository)
    with ThreadPoolExecutor(max(1, len(repositories))) as pool:
        facts = list(pool.map(ask, repositories))
    if failed and len(failed) == len(facts):
        raise failed[0]
    signing = app.config.signing
    expectation = Expectation(
        promise=app.promise() if cluster == app.config.cluster.name else None,
        must_be_signed=bool(signing.key_file or signing.trusted_signers),
        rpo=rpo,
    )
    return audited(Case(cluster, period, now, expectation, tuple(tell(one) for one in facts)))
