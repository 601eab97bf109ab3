"""From gRPC's status to one of our errors, with a hint that fits.

gRPC says UNAVAILABLE for a closed port, an expired certificate and a lost leader alike. So where its words
are vague, one connection is made with Python's own sockets and TLS, which name the cause.
"""

from __future__ import annotations

import socket
import ssl

import grpc

from etcdguard.errors import ClusterUnhealthy, EtcdGuardError, EtcdUnreachable
from etcdguard.etcd.connection import Address, Tls

__all__ = ["is_deadline", "is_token_rejected", "translate"]

_CODE = grpc.StatusCode
_ETCD_PREFIX = "etcdserver: "
_DENIED_UNTRANSLATED = "auth: permission denied"
"""How 3.4 and 3.5 deny snapshots and hashes: as an unknown error."""

# An HTTP/2 connection preface and an empty SETTINGS frame: enough for a server to show its first bytes.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_TLS_ALERT = b"\x15"
_ALERT_TIMEOUT = 3.0

_HINT_RUNNING = "check that etcd runs and listens on this address"
_HINT_CLIENT_CERT = "pass --cert and --key of a certificate signed by the authority etcd trusts for clients"
_HINT_USER = "check the user name and password"


def is_deadline(error: grpc.RpcError) -> bool:
    """Whether a single call got no answer in time, by our clock or by the server's.

    The server's may run out a moment before ours: 3.4 then says so in words, later ones reset the stream.
    """
    details = error.details() or ""
    return (
        error.code() == _CODE.DEADLINE_EXCEEDED
        or "context deadline exceeded" in details
        or (error.code() == _CODE.CANCELLED and "RST_STREAM" in details)
    )


def is_token_rejected(error: grpc.RpcError) -> bool:
    """Whether a new token would help: it expired, the member restarted, or users and roles changed."""
    if error.code() == _CODE.UNAUTHENTICATED:
        return True
    return bool(error.code() == _CODE.INVALID_ARGUMENT and "revision of auth store is old" in error.details())


def translate(error: grpc.RpcError, address: Address, tls: Tls | None, dial_timeout: float) -> EtcdGuardError:
    """What ``error`` means for someone who wants to reach etcd at ``address``; may probe the endpoint."""
    code, details = error.code(), _first_line(error.details())
    late = is_deadline(error)
    if details.startswith(_ETCD_PREFIX) and not late:
        return _from_etcd(code, details.removeprefix(_ETCD_PREFIX), address)
    if details == _DENIED_UNTRANSLATED:
        return _from_etcd(_CODE.PERMISSION_DENIED, details, address)
    if code != _CODE.UNAVAILABLE and not late:
        return EtcdUnreachable(
            f"{address}: the call failed: {code.name}: {details}", hint="check that this endpoint is etcd"
        )
    found = _probe(address, tls, dial_timeout)
    if found is not None:
        return found
    if late:
        return EtcdUnreachable(
            f"{address}: etcd accepts connections but did not answer in time",
            hint="the member may be overloaded or without a leader; raise --command-timeout",
        )
    return EtcdUnreachable(f"{address}: {details}", hint=_HINT_RUNNING)


def _from_etcd(code: grpc.StatusCode, said: str, address: Address) -> EtcdGuardError:
    """etcd itself answered, and refused."""
    if code == _CODE.PERMISSION_DENIED:
        return EtcdUnreachable(
            f"{address}: etcd denied permission",
            hint="use an etcd user with the root role; snapshots need it",
        )
    if "user name is empty" in said:
        return EtcdUnreachable(
            f"{address}: etcd requires authentication", hint="pass --user, or a client certificate of a user"
        )
    if code == _CODE.UNAUTHENTICATED or "authentication failed" in said:
        return EtcdUnreachable(f"{address}: etcd refused the credentials: {said}", hint=_HINT_USER)
    if code == _CODE.UNAVAILABLE:
        return ClusterUnhealthy(
            f"{address}: etcd cannot serve: {said}", hint="check with etcdctl that the members have a leader"
        )
    return ClusterUnhealthy(
        f"{address}: etcd refused the call: {said}", hint="check the member with etcdctl endpoint status"
    )


def _probe(address: Address, tls: Tls | None, timeout: float) -> EtcdUnreachable | None:
    """Why etcd cannot be spoken to; None when it could, or when it stays silent."""
    try:
        plain = socket.create_connection((address.host, address.port), timeout)
    except socket.gaierror as e:
        return EtcdUnreachable(
            f"{address}: the host name cannot be resolved: {e.strerror}",
            hint="check the endpoint's host name",
        )
    except ConnectionRefusedError:
        return EtcdUnreachable(f"{address}: connection refused", hint=_HINT_RUNNING)
    except TimeoutError:
        return EtcdUnreachable(
            f"{address}: no connection within {timeout:g} s",
            hint="check the address, the network and firewalls",
        )
    except OSError as e:
        return EtcdUnreachable(f"{address}: {e.strerror or e}", hint=_HINT_RUNNING)
    with plain:
        try:
            return _converse(plain, address, tls)
        except ssl.SSLCertVerificationError as e:
            return _from_verification(e, address)
        except ssl.SSLError as e:
            return _from_tls(e, address)
        except TimeoutError:
            return None
        except OSError as e:
            return EtcdUnreachable(f"{address}: {e.strerror or e}", hint=_HINT_RUNNING)


def _converse(plain: socket.socket, address: Address, tls: Tls | None) -> EtcdUnreachable | None:
    if address.secure and tls is not None:
        name = tls.server_name or address.host
        with tls.context.wrap_socket(plain, server_hostname=name) as encrypted:
            # TLS 1.3 servers judge the client's certificate only after the handshake. Nothing is sent: it
            # could cross the alert that we wait for, and the reset that follows would swallow it.
            encrypted.settimeout(_ALERT_TIMEOUT)
            encrypted.recv(1)
        return None
    plain.sendall(_HELLO)
    if plain.recv(1) in (b"", _TLS_ALERT):
        return EtcdUnreachable(
            f"{address}: the server does not speak plain HTTP/2",
            hint="it may want TLS: use an https:// endpoint",
        )
    return None


_EXPIRED = 10
_NOT_YET_VALID = 9
_NAME_MISMATCH = (62, 64)


def _from_verification(error: ssl.SSLCertVerificationError, address: Address) -> EtcdUnreachable:
    """OpenSSL's X509_V_ERR_* codes."""
    if error.verify_code in (_EXPIRED, _NOT_YET_VALID):
        when = "has expired" if error.verify_code == _EXPIRED else "is not valid yet"
        return EtcdUnreachable(
            f"{address}: the server's certificate {when}",
            hint="renew etcd's server certificate; check the clock",
        )
    if error.verify_code in _NAME_MISMATCH:
        return EtcdUnreachable(
            f"{address}: the server's certificate is for another name: {error.verify_message}",
            hint="use an endpoint that the certificate names, or set the expected name with --server-name",
        )
    return EtcdUnreachable(
        f"{address}: the server's certificate is not trusted: {error.verify_message}",
        hint="pass the CA certificate that signed etcd's server certificate with --cacert",
    )


def _from_tls(error: ssl.SSLError, address: Address) -> EtcdUnreachable:
    reason = error.reason or "the handshake failed"
    if any(word in reason for word in ("WRONG_VERSION", "HTTP_REQUEST", "RECORD_LAYER", "EOF")):
        return EtcdUnreachable(
            f"{address}: the server does not answer in TLS",
            hint="it may speak plain HTTP: use an http:// endpoint",
        )
    if "ALERT" in reason and "CERTIFICATE_REQUIRED" in reason:
        return EtcdUnreachable(f"{address}: etcd requires a client certificate", hint=_HINT_CLIENT_CERT)
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        said = reason.lower().replace("_", " ")
        return EtcdUnreachable(
            f"{address}: etcd rejects the client certificate: {said}", hint=_HINT_CLIENT_CERT
        )
    return EtcdUnreachable(
        f"{address}: TLS failed: {reason.lower().replace('_', ' ')}",
        hint="check the certificates on both sides",
    )


def _first_line(text: str | None) -> str:
    return (text or "no details").strip().splitlines()[0]
