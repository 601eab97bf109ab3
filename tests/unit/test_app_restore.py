"""What is asked of the members on other hosts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from etcdguard.app import App
from etcdguard.app_restore import by_host
from etcdguard.config.load import parse
from etcdguard.restore.by_host import ByHost
from etcdguard.restore.crew import NoWatcher, Orders
from etcdguard.restore.plan import RestorePlan
from etcdguard.restore.planner import Choices, make_plan
from tests.support.restores import NOW, make_manifest, make_members
from tests.unit.restore.fleet import TOOL
from tests.unit.restore.replacing import FakeCluster


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def app(tmp_path: Path, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> App:
    text = f"cluster: {{name: prod}}\nencryption: {{disabled: true}}\nrestore: {{state_dir: {tmp_path}}}\n"
    made = App(parse(text, tmp_path / "config.yaml"))

    @contextmanager
    def etcd(endpoints: Sequence[str] = ()) -> Iterator[FakeCluster]:
        assert len(endpoints) == 3
        yield cluster

    monkeypatch.setattr(made, "etcd", etcd)
    return made


def plan(**urls: str) -> RestorePlan:
    """Members at 10.0.0.1 to 3, or where ``urls`` say that clients reach them."""
    members = [
        one.model_copy(update={"client_urls": (urls.get(one.name, one.client_urls[0]),)})
        for one in make_members("m1", "m2", "m3")
    ]
    choices = Choices(all_here=True, data_dirs={name: f"/{name}" for name in ("m1", "m2", "m3")})
    manifest = make_manifest(members)
    return make_plan(manifest, (), choices, TOOL, node="cp1", now=NOW, token_hex=secrets.token_hex)


def part(app: App, made: RestorePlan) -> Any:
    found: ByHost = by_host(app, made, ["m3"], "", NoWatcher(), Orders())
    return found._elsewhere


def test_a_member_elsewhere_tells_its_cluster_and_whether_it_serves(app: App, cluster: FakeCluster) -> None:
    made = plan()
    elsewhere = part(app, made)
    assert elsewhere.cluster_of(made.member("m1")) == "cafe"
    assert elsewhere.serves(made.member("m1")) is True
    cluster.quorum = False
    assert elsewhere.cluster_of(made.member("m1")) == "cafe"
    assert elsewhere.serves(made.member("m1")) is False


def test_one_that_is_silent_is_of_no_cluster(app: App, cluster: FakeCluster) -> None:
    made = plan()
    cluster.up = {"m2"}
    assert part(app, made).cluster_of(made.member("m1")) is None
    assert part(app, made).serves(made.member("m1")) is False


def test_what_answers_as_a_member_of_this_host_is_not_elsewhere(app: App, cluster: FakeCluster) -> None:
    """A URL like http://localhost:2379 leads every host to itself."""
    made = plan(m1="http://10.0.0.3:2379")
    cluster.up = {"m3"}
    elsewhere = part(app, made)
    assert elsewhere.cluster_of(made.member("m1")) is None
    assert elsewhere.serves(made.member("m1")) is False


def test_nor_is_one_that_has_the_id_of_a_member_here(
    app: App, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = plan()
    monkeypatch.setattr(cluster, "_id", lambda _: made.member("m3").member_id)
    assert part(app, made).cluster_of(made.member("m1")) is None
