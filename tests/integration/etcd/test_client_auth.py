"""Users, passwords and tokens, against every supported version."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from etcdguard.errors import EtcdUnreachable
from etcdguard.etcd.client import EtcdClient
from etcdguard.etcd.connection import ConnectionOptions
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.source import EndpointFailure, StreamLimits
from etcdguard.etcd.stream import TrailerCheck
from tests.support.certs import Pki
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, enable_auth
from tests.support.fixtures_etcd import ClusterFactory, each_etcd_version

ROOT = Credentials("root", "correct-horse-battery")
READER = Credentials("reader", "staple")


def client_of(urls: tuple[str, ...], credentials: Credentials | None, *, timeout: float = 5.0) -> EtcdClient:
    if credentials is None:
        return EtcdClient(ConnectionOptions(urls))
    return EtcdClient(
        ConnectionOptions(
            urls,
            user=credentials.user,
            password=SecretStr(credentials.password),
            command_timeout=timeout,
        )
    )


def whole_snapshot(client: EtcdClient, url: str) -> int:
    check = TrailerCheck()
    with client.snapshot(url, StreamLimits()) as pieces:
        for piece in pieces:
            check.update(piece)
    return check.finish()[0]


@pytest.fixture
def guarded(etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory) -> LocalCluster:
    """Three members with authentication on."""
    cluster = cluster_factory()
    enable_auth(etcd_binaries.etcdctl, cluster, ROOT, READER)
    return cluster


@each_etcd_version
def test_root_may_do_everything_and_a_new_token_is_fetched_when_the_old_one_is_refused(
    guarded: LocalCluster,
) -> None:
    url = guarded.client_urls[0]
    with client_of(guarded.client_urls, ROOT) as client:
        assert not [one for one in client.statuses() if isinstance(one, EndpointFailure)]
        assert client.holds_prefix(url, b"/") is False
        assert client.alarms(url) == ()
        revision = client.status(url).revision
        assert client.hash_kv(url, revision, timeout=20) is not None
        assert whole_snapshot(client, url) > 0
        forget_tokens(guarded)
        assert whole_snapshot(client, url) > 0
        forget_tokens(guarded)
        assert client.holds_prefix(url, b"/") is False
        assert len(client.topology().members) == 3


def forget_tokens(cluster: LocalCluster) -> None:
    """etcd keeps simple tokens in memory only."""
    cluster.stop()
    cluster.start_all()
    cluster.wait_healthy()


@each_etcd_version
def test_a_user_without_the_root_role_learns_what_is_missing(guarded: LocalCluster) -> None:
    url = guarded.client_urls[0]
    with client_of(guarded.client_urls, READER) as client:
        assert client.status(url).member_id
        client.linearizable_read(url)
        with pytest.raises(EtcdUnreachable, match="etcd denied permission") as raised:
            whole_snapshot(client, url)
    assert raised.value.hint == "use an etcd user with the root role; snapshots need it"


@each_etcd_version
def test_wrong_passwords_and_absent_users_are_told_apart_from_dead_members(guarded: LocalCluster) -> None:
    url = guarded.client_urls[0]
    with (
        client_of(guarded.client_urls, Credentials("root", "hunter2-wrong")) as client,
        pytest.raises(EtcdUnreachable, match="etcd refused the credentials") as raised,
    ):
        whole_snapshot(client, url)
    assert raised.value.hint == "check the user name and password"
    assert "hunter2" not in raised.value.message
    with (
        client_of(guarded.client_urls, None) as client,
        pytest.raises(EtcdUnreachable, match="etcd requires authentication") as raised,
    ):
        client.holds_prefix(url, b"/")
    assert "--user" in raised.value.hint


def test_authentication_goes_to_another_member_when_one_is_down(guarded: LocalCluster) -> None:
    guarded.kill(guarded.names[0])
    guarded.wait_healthy(names=guarded.names[1:])
    with client_of(guarded.client_urls, ROOT) as client:
        dead, *alive = client.statuses()
        assert isinstance(dead, EndpointFailure)
        assert "connection refused" in dead.error.message
        assert not [one for one in alive if isinstance(one, EndpointFailure)]
        assert len(client.topology().members) == 3


def test_a_password_for_a_cluster_without_authentication_does_no_harm(shared_cluster: LocalCluster) -> None:
    with client_of(shared_cluster.client_urls, ROOT) as client:
        assert whole_snapshot(client, shared_cluster.client_urls[0]) > 0


def test_authentication_over_mutual_tls(
    etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory, pki: Pki
) -> None:
    # The certificate's common name must not pass for a user: the password decides.
    cluster = cluster_factory(names=("alone",), tls=pki.tls())
    enable_auth(etcd_binaries.etcdctl, cluster, ROOT)
    options = ConnectionOptions(
        cluster.client_urls,
        cacert=pki.ca,
        cert=pki.client.cert,
        key=pki.client.key,
        user=ROOT.user,
        password=SecretStr(ROOT.password),
    )
    with EtcdClient(options) as client:
        assert whole_snapshot(client, cluster.client_urls[0]) > 0
