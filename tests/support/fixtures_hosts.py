"""pytest fixtures around test hosts; see ``hosts``.

Where hosts cannot be had their tests are skipped, by name; with ETCDGUARD_REQUIRE_HOSTS=1 they fail. Whatever
asks for ``hosts_available`` or ``three_hosts`` is marked ``root`` and put into one xdist group: it runs on
one worker.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.hosts import HostSet, HostsUnavailable
from tests.support.hosts_etcd import HostPki
from tests.support.hosts_image import image

__all__ = ["REQUIRE_VARIABLE", "watched"]

REQUIRE_VARIABLE = "ETCDGUARD_REQUIRE_HOSTS"

_FIXTURE = "hosts_available"
_SETS: list[HostSet] = []
_LOG_LINES = "25"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses hosts, before xdist reads the groups."""
    for item in items:
        if _FIXTURE in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.root)
            item.add_marker(pytest.mark.xdist_group("hosts"))


@pytest.fixture(scope="session")
def hosts_available() -> None:
    """For tests that make a HostSet of their own: skips them, or fails them, where that is impossible."""
    try:
        image()
    except HostsUnavailable as error:
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(f"test hosts are required and not available: {error}", pytrace=False)
        pytest.skip(f"test hosts are not available: {error}")


@pytest.fixture(scope="session")
def host_pki(tmp_path_factory: pytest.TempPathFactory) -> HostPki:
    """Certificates for etcd on hosts, made once a run."""
    return HostPki(tmp_path_factory.mktemp("host-pki"))


@pytest.fixture(scope="session")
def host_share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is the same, and writable, on this machine and on the hosts of `three_hosts`."""
    return tmp_path_factory.mktemp("host-share")


@pytest.fixture(scope="session")
def three_hosts(hosts_available: None, host_share: Path) -> Iterator[HostSet]:
    """Three running hosts for the whole session. A test leaves them running and clean: `remove_etcd`."""
    with HostSet(3, shared=[host_share]) as hosts, watched(hosts):
        yield hosts


@contextmanager
def watched(hosts: HostSet) -> Iterator[None]:
    """Their journals are shown beside failures meanwhile."""
    _SETS.append(hosts)
    try:
        yield
    finally:
        _SETS.remove(hosts)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.CallInfo[None], None]:
    """Show the hosts' last journal lines beside a failure."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and _FIXTURE in getattr(item, "fixturenames", ()):
        for host in (host for hosts in _SETS for host in hosts if host.running):
            journal = host.run("journalctl", f"--lines={_LOG_LINES}", "--no-pager", check=False).stdout
            report.sections.append((f"journal of {host.name}", journal))
