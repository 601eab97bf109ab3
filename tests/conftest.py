"""What every test can use."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How fast a machine is under load is no property of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# For mutation testing and coverage: the same few examples each time (--hypothesis-profile).
settings.register_profile("few", settings.get_profile("any machine"), max_examples=25, derandomize=True)

# A shell starts background jobs with Ctrl-C ignored, nohup ignores the hang-up, and children inherit both:
# the tests of interrupts need them as a terminal gives them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = [
    "tests.support.fixtures_disk",
    "tests.support.fixtures_etcd",
    "tests.support.fixtures_hosts",
    "tests.support.fixtures_install",
    "tests.support.fixtures_s3",
]


@pytest.fixture(autouse=True)
def logging_as_at_first() -> Iterator[None]:
    """A test that sets logging up leaves nothing of it: the next in its process may read what is logged."""
    yield
    structlog.reset_defaults()
