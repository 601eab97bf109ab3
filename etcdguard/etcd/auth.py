"""The token that stands for a user and password, fetched when needed and shared by all endpoints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import etcd3
import grpc
from pydantic import SecretStr

from etcdguard.etcd.connection import Address

__all__ = ["TokenKeeper"]

Metadata = tuple[tuple[str, str], ...]

_AUTH_DISABLED = "authentication is not enabled"
_TRY_ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


class TokenKeeper:
    """Authenticates through python3-etcd3 and remembers the token; safe to share between threads.

    etcd distributes a token to every member, so one is enough. It is asked of the endpoint that needs it, and
    of the others when that one is down. ``open_endpoint`` gives an address's endpoint and channel.
    """

    def __init__(
        self,
        user: str,
        password: SecretStr,
        timeout: float,
        addresses: Sequence[Address],
        open_endpoint: Callable[[Address], etcd3.Endpoint],
    ) -> None:
        self._user = user
        self._password = password
        self._timeout = timeout
        self._addresses = addresses
        self._open_endpoint = open_endpoint
        self._lock = threading.Lock()
        self._token: Metadata | None = None

    def metadata(self, address: Address) -> Metadata:
        """What to send with a call to ``address``; empty when the cluster has authentication turned off.

        Raises grpc.RpcError: of the first endpoint asked when none can be reached.
        """
        with self._lock:
            if self._token is None:
                self._token = self._authenticate_somewhere(address)
            return self._token

    def renew(self, rejected: Metadata) -> None:
        """Forget a token that was refused, unless another thread has replaced it already."""
        with self._lock:
            if self._token == rejected:
                self._token = None

    def _authenticate_somewhere(self, first: Address) -> Metadata:
        failure: grpc.RpcError | None = None
        for address in dict.fromkeys((first, *self._addresses)):
            try:
                return self._authenticate(address)
            except grpc.RpcError as e:
                if e.code() not in _TRY_ELSEWHERE:
                    raise
                failure = failure or e
        assert failure is not None  # noqa: S101  (the loop runs at least once)
        raise failure

    def _authenticate(self, address: Address) -> Metadata:
        try:
            client = etcd3.MultiEndpointEtcd3Client(
                endpoints=[self._open_endpoint(address)],
                timeout=self._timeout,
                user=self._user,
                password=self._password.get_secret_value(),
            )
        except grpc.RpcError as e:
            if _AUTH_DISABLED in (e.details() or ""):
                return ()  # as etcdctl does: no harm in knowing a password that is not asked for
            raise
        # The client itself is not closed: that would close the channel, which is ours.
        return tuple(client.metadata)
