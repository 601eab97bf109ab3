"""How etcd is reached: endpoints, TLS material, timeouts; and the gRPC channels made from them."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import etcd3
import grpc
from pydantic import SecretStr

from etcdguard.errors import ConfigError

__all__ = ["Address", "ConnectionOptions", "Tls", "open_endpoint", "parse_endpoint"]

_UNLIMITED = -1
_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
)


@dataclass(frozen=True)
class ConnectionOptions:
    """Everything needed to talk to a cluster, named as etcdctl's flags are. Times in seconds.

    ``server_name`` replaces the endpoint's host when the server's certificate is checked. Without ``cacert``
    the system's certificate authorities are trusted. Raises ConfigError for what cannot work.
    """

    endpoints: tuple[str, ...]
    cacert: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: SecretStr | None = None
    server_name: str | None = None
    command_timeout: float = 5.0
    dial_timeout: float = 2.0
    """For the connection that finds out why an endpoint does not answer."""
    keepalive_time: float = 10.0
    """etcd drops clients that ping more often than every 5 s."""
    keepalive_timeout: float = 6.0

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ConfigError("no etcd endpoint is configured", hint="pass --endpoints https://host:2379,...")
        if (self.cert is None) != (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise ConfigError(
                f"a client {given} is configured without its {missing}", hint="pass both --cert and --key"
            )
        if (self.user is None) != (self.password is None):
            given, missing = ("user", "password") if self.password is None else ("password", "user")
            raise ConfigError(
                f"an etcd {given} is configured without its {missing}",
                hint="give both, or neither where etcd knows the client by its certificate",
            )
        for endpoint in self.endpoints:
            self.address(endpoint)

    def address(self, endpoint: str) -> Address:
        """``endpoint`` in canonical form."""
        return parse_endpoint(endpoint, tls=self.cacert is not None or self.cert is not None)

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        """The endpoints in canonical form and the given order, each once."""
        return tuple(dict.fromkeys(self.address(endpoint) for endpoint in self.endpoints))


@dataclass(frozen=True)
class Address:
    """One endpoint. ``host`` is without the brackets of an IPv6 address."""

    secure: bool
    host: str
    port: int

    @property
    def netloc(self) -> str:
        """``host:port``, as gRPC and etcd3 take it."""
        return f"{self.bracketed_host}:{self.port}"

    @property
    def bracketed_host(self) -> str:
        """The host as it stands in a URL."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.netloc}"


def parse_endpoint(text: str, *, tls: bool) -> Address:
    """Read an endpoint as etcdctl does: a URL, or a bare ``host:port`` that is https when ``tls`` is set.

    Raises ConfigError for anything but scheme (http or https), host and port.
    """
    plain = text.strip()
    try:
        parts = urlsplit(plain if "://" in plain else f"{'https' if tls else 'http'}://{plain}")
        port = parts.port
    except ValueError as e:
        raise _bad_endpoint(text, str(e)) from e
    if parts.scheme not in ("http", "https"):
        raise _bad_endpoint(text, "the scheme is neither http nor https")
    if parts.username is not None or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _bad_endpoint(text, "there is more than scheme, host and port")
    if not parts.hostname:
        raise _bad_endpoint(text, "the host is missing")
    if not port:
        raise _bad_endpoint(text, "the port is missing")
    return Address(parts.scheme == "https", parts.hostname, port)


def _bad_endpoint(text: str, why: str) -> ConfigError:
    return ConfigError(f"endpoint {text!r} cannot be used: {why}", hint="write it as https://host:2379")


class Tls:
    """The TLS material of a cluster, read and checked once; raises ConfigError for what TLS cannot use."""

    def __init__(self, options: ConnectionOptions) -> None:
        self.server_name = options.server_name
        roots = options.cacert or _system_roots()
        self._roots = _read(roots, "--cacert") if roots else None
        self._cert = _read(options.cert, "--cert") if options.cert else None
        self._key = _read(options.key, "--key") if options.key else None
        self._paths = (roots, options.cert, options.key)
        self.context = _context(*self._paths)
        """The same for Python's own ssl: for snapshots, and to say what is wrong where gRPC cannot."""
        self.context.set_alpn_protocols(["h2"])

    def http_context(self) -> ssl.SSLContext:
        """The same once more, for HTTP/1.1: what etcd serves beside gRPC on one port."""
        context = _context(*self._paths)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def credentials(self) -> grpc.ChannelCredentials:
        """The same material for gRPC."""
        return grpc.ssl_channel_credentials(self._roots, self._key, self._cert)


def _read(path: Path, flag: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ConfigError(
            f"{path} cannot be read: {e.strerror}", hint=f"check {flag} and the file's permissions"
        ) from e


def _system_roots() -> Path | None:
    """gRPC would trust the authorities compiled into it; operators install theirs in the system."""
    return next((path for path in map(Path, _SYSTEM_ROOTS) if path.exists()), None)


def _context(roots: Path | None, cert: Path | None, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if roots is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(roots)
        except ssl.SSLError as e:
            raise ConfigError(
                f"{roots} holds no certificate", hint="give the PEM file of the authority to --cacert"
            ) from e
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password=_refuse_passphrase)
        except ssl.SSLError as e:
            raise ConfigError(
                f"{cert} and {key} are not a certificate and its key",
                hint="give matching PEM files without a passphrase to --cert and --key",
            ) from e
    return context


def _refuse_passphrase() -> str:
    """Without it, OpenSSL would stop and ask on the terminal."""
    raise ConfigError(
        "the client key is protected by a passphrase", hint="give a key without one to --key, with mode 0600"
    )


def open_endpoint(address: Address, options: ConnectionOptions, tls: Tls | None) -> etcd3.Endpoint:
    """A python3-etcd3 endpoint with its (lazy) channel; ``tls`` is needed for https."""
    settings: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _UNLIMITED),
        ("grpc.keepalive_time_ms", round(options.keepalive_time * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.keepalive_timeout * 1000)),
        ("grpc.http2.max_pings_without_data", 0),
        # Left alone, gRPC waits two minutes before it tries a member again that has been down for long.
        ("grpc.max_reconnect_backoff_ms", 5000),
        # What a proxy is set for is the repository; snapshots are asked for directly too (etcd/streaming.py).
        ("grpc.enable_http_proxy", 0),
    ]
    if tls is not None and tls.server_name is not None:
        settings.append(("grpc.ssl_target_name_override", tls.server_name))
    return etcd3.Endpoint(
        host=address.bracketed_host,
        port=address.port,
        secure=address.secure,
        creds=tls.credentials() if tls is not None and address.secure else None,
        opts=settings,
    )
