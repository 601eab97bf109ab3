"""The token that stands for a user: where it is fetched, and when it is fetched anew."""

from __future__ import annotations

from typing import Any

import etcd3
import grpc
import pytest
from pydantic import SecretStr

from etcdguard.etcd.auth import TokenKeeper
from etcdguard.etcd.connection import Address, parse_endpoint

A, B = (parse_endpoint(text, tls=False) for text in ("http://a:2379", "http://b:2379"))


class Refusal(grpc.RpcError):  # type: ignore[misc]  # gRPC has no types
    """What gRPC raises."""

    def __init__(self, code: grpc.StatusCode, details: str = "") -> None:
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


DOWN, LATE = Refusal(grpc.StatusCode.UNAVAILABLE, "down"), Refusal(grpc.StatusCode.DEADLINE_EXCEEDED)
WRONG = Refusal(grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: authentication failed")
OFF = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")


class Etcd:
    """Endpoints that answer a login with a numbered token, or with an error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.errors: dict[Address, Refusal] = {}
        self.asked: list[Address] = []
        monkeypatch.setattr(etcd3, "MultiEndpointEtcd3Client", self._log_in)
        self.keeper = TokenKeeper("root", SecretStr("s3cret"), 1.0, (A, B), lambda address: address)

    def _log_in(self, *, endpoints: list[Address], user: str, password: str, **_: Any) -> Any:
        (address,) = endpoints
        self.asked.append(address)
        assert (user, password) == ("root", "s3cret")
        if address in self.errors:
            raise self.errors[address]
        return type("Client", (), {"metadata": [("token", str(len(self.asked)))]})


@pytest.fixture
def etcd(monkeypatch: pytest.MonkeyPatch) -> Etcd:
    return Etcd(monkeypatch)


def test_one_token_is_enough_for_every_endpoint(etcd: Etcd) -> None:
    assert etcd.keeper.metadata(B) == etcd.keeper.metadata(A) == (("token", "1"),)
    assert etcd.asked == [B]


def test_a_token_that_was_refused_is_forgotten_once(etcd: Etcd) -> None:
    first = etcd.keeper.metadata(A)
    etcd.keeper.renew(first)
    second = etcd.keeper.metadata(A)
    assert second == (("token", "2"),)
    etcd.keeper.renew(first)  # by a thread that has not seen the new one
    assert etcd.keeper.metadata(A) == second


@pytest.mark.parametrize("error", [DOWN, LATE], ids=["down", "late"])
def test_another_endpoint_is_asked_where_one_is_away(etcd: Etcd, error: Refusal) -> None:
    etcd.errors[B] = error
    assert etcd.keeper.metadata(B) == (("token", "2"),)
    assert etcd.asked == [B, A]


def test_when_all_are_away_the_first_ones_error_is_raised(etcd: Etcd) -> None:
    etcd.errors = {A: LATE, B: DOWN}
    with pytest.raises(Refusal) as caught:
        etcd.keeper.metadata(B)
    assert caught.value is DOWN
    assert etcd.asked == [B, A]


def test_a_wrong_password_is_not_tried_elsewhere(etcd: Etcd) -> None:
    etcd.errors[A] = WRONG
    with pytest.raises(Refusal) as caught:
        etcd.keeper.metadata(A)
    assert caught.value is WRONG
    assert etcd.asked == [A]


def test_a_cluster_without_authentication_wants_no_token(etcd: Etcd) -> None:
    etcd.errors[A] = OFF
    assert etcd.keeper.metadata(A) == ()
