"""pytest fixtures around real etcd: programs of several versions, clusters, certificates.

A release line that cannot be had skips the tests that ask for it, by name and counted at the end of the run;
with ETCDGUARD_REQUIRE_ETCD=3.4,3.5,... those lines must be there and their absence fails the tests.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from etcdguard.etcd.local import DEFAULT_NAMES, LocalCluster, TlsFiles
from tests.support.certs import Pki, make_pki
from tests.support.etcd_versions import (
    MINORS,
    EtcdPrograms,
    Unavailable,
    default_programs,
    programs,
    required_minors,
)

__all__ = ["ClusterFactory", "each_etcd_version"]

each_etcd_version = pytest.mark.parametrize("etcd_binaries", MINORS, indirect=True)
"""Runs a test once for every release line; the test takes ``etcd_binaries`` or ``cluster_factory``."""

_RAN = "etcd_version"
_MISSING = "etcd_missing"
_LOG_LINES = 25
_CLUSTERS = pytest.StashKey[list[LocalCluster]]()


class ClusterFactory(Protocol):
    """Starts clusters for one test and waits until they are healthy; they are gone, files too, after it."""

    def __call__(
        self,
        *,
        names: tuple[str, ...] = DEFAULT_NAMES,
        tls: TlsFiles | None = None,
        quota_bytes: int | None = None,
        extra_args: tuple[str, ...] = (),
        etcd: EtcdPrograms | None = None,
        unsafe_no_fsync: bool = True,
        wait: bool = True,
    ) -> LocalCluster:
        """``etcd`` overrides the test's version; ``wait=False`` only starts the members."""


@pytest.fixture
def etcd_binaries(request: pytest.FixtureRequest) -> EtcdPrograms:
    """etcd's programs: of the release line in a parameter, else whichever the suite prefers."""
    minor: str | None = getattr(request, "param", None)
    properties = request.node.user_properties
    try:
        found = default_programs() if minor is None else programs(minor)
    except Unavailable as error:
        missing = minor or "any version"
        properties.append((_MISSING, missing))
        required = required_minors(os.environ)
        if minor in required or (minor is None and required):
            pytest.fail(f"etcd {missing} is required and not available: {error}", pytrace=False)
        pytest.skip(f"etcd {missing} is not available: {error}")
    properties.append((_RAN, found.version))
    return found


@pytest.fixture
def cluster_factory(
    request: pytest.FixtureRequest, etcd_binaries: EtcdPrograms, tmp_path: Path
) -> Iterator[ClusterFactory]:
    """Clusters of the test's own, to be broken at will. fsync is off unless asked for."""
    clusters: list[LocalCluster] = []
    request.node.stash[_CLUSTERS] = clusters
    root = tmp_path / "clusters"

    def start(
        *,
        names: tuple[str, ...] = DEFAULT_NAMES,
        tls: TlsFiles | None = None,
        quota_bytes: int | None = None,
        extra_args: tuple[str, ...] = (),
        etcd: EtcdPrograms | None = None,
        unsafe_no_fsync: bool = True,
        wait: bool = True,
    ) -> LocalCluster:
        cluster = LocalCluster(
            (etcd or etcd_binaries).etcd,
            root / str(len(clusters)),
            names=names,
            tls=tls,
            quota_bytes=quota_bytes,
            extra_args=extra_args,
            unsafe_no_fsync=unsafe_no_fsync,
        )
        clusters.append(cluster)
        cluster.start_all()
        if wait:
            cluster.wait_healthy()
        return cluster

    yield start
    for cluster in clusters:
        cluster.close()
    # A member preallocates 64 MB and more for its WAL, and pytest keeps the folders of three runs.
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """Three plain members of the preferred version for the whole run.

    Only for tests that stay below a key prefix of their own: no kills, no compaction, no defragmentation.
    """
    try:
        found = default_programs()
    except Unavailable as error:
        if required_minors(os.environ):
            pytest.fail(f"etcd is required and not available: {error}", pytrace=False)
        pytest.skip(f"etcd is not available: {error}")
    root = tmp_path_factory.mktemp("shared-cluster")
    with LocalCluster(found.etcd, root, unsafe_no_fsync=True) as cluster:
        yield cluster
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates, made once a run."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """Show the members' last log lines beside a failure: the files are gone afterwards."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed:
        for cluster in item.stash.get(_CLUSTERS, []):
            for name in cluster.names:
                report.sections.append((f"etcd log of {name}", _tail(cluster.log_path(name))))


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-_LOG_LINES:]) or "(empty)"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which versions of etcd the tests met, and which they missed."""
    facts = {
        (report.nodeid, fact)
        for category in ("passed", "failed", "error", "skipped", "xfailed")
        for report in terminalreporter.stats.get(category, [])
        if isinstance(report, pytest.TestReport)
        for fact in report.user_properties
        if fact[0] in (_RAN, _MISSING)
    }
    if facts:
        ran = Counter(value for _, (kind, value) in facts if kind == _RAN)
        missing = Counter(value for _, (kind, value) in facts if kind == _MISSING)
        terminalreporter.section("etcd versions")
        for value, count in sorted(ran.items()):
            terminalreporter.line(f"etcd {value}: {count} tests")
        for value, count in sorted(missing.items()):
            terminalreporter.line(f"etcd {value}: NOT AVAILABLE, {count} tests did not run")
