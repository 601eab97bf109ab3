"""The only place where concrete adapters are built from a configuration.

Imports of boto3, grpc and cryptography happen inside the methods that need them, so that a command pays only
for what it uses.
"""

from __future__ import annotations

import math
import os
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from etcdguard import __version__
from etcdguard.config import Loaded
from etcdguard.errors import ConfigError, EtcdGuardError, RepositoryError, WrongKey
from etcdguard.log import get_logger
from etcdguard.model import Tool
from etcdguard.progress import Progress

if TYPE_CHECKING:
    from etcdguard.audit.promise import Promise
    from etcdguard.catalog import Catalog
    from etcdguard.config.schema import Repository
    from etcdguard.crypto.recipients import Identity, Recipient
    from etcdguard.crypto.signing import SigningKey, TrustedSigners
    from etcdguard.drill import DrillResult
    from etcdguard.etcd.admin import AdminClient
    from etcdguard.etcd.client import EtcdClient
    from etcdguard.etcd.connection import ConnectionOptions
    from etcdguard.etcd.lease import SlotMarks
    from etcdguard.etcd.lock import LeaseLock
    from etcdguard.etcd.metrics import Scraper
    from etcdguard.storage.base import LockRule, RepositoryStore
    from etcdguard.verify import Verifier, VerifyResult

__all__ = ["App", "SystemClock"]

_log = get_logger()

_Answer = TypeVar("_Answer")


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


class App:
    """Everything one invocation needs, built from its configuration on demand."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.config = loaded.config
        self.clock = SystemClock()
        self.node = socket.gethostname()
        self.tool = Tool(name="etcdguard", version=__version__)
        self.patience: float | None = None
        """Seconds that a repository is insisted on; None: as long as its kind of store advises."""

    # -- etcd --------------------------------------------------------------------------------------------

    def etcd(self, endpoints: Sequence[str] = ()) -> EtcdClient:
        """A client of the configured cluster, or of ``endpoints`` with the same credentials."""
        from etcdguard.etcd.client import EtcdClient

        return EtcdClient(self.connection(endpoints))

    def etcd_admin(self, endpoints: Sequence[str] = ()) -> AdminClient:
        """The same, with the calls that write."""
        from etcdguard.etcd.admin import AdminClient

        return AdminClient(self.connection(endpoints))

    def scraper(self) -> Scraper:
        """A reader of the members' metrics."""
        from etcdguard.etcd.metrics import Scraper

        return Scraper(self.connection(), self.config.cluster.metrics_urls, self.clock.now)

    def lock(self, name: str, endpoints: Sequence[str] = ()) -> LeaseLock:
        """The cluster's lock of that name, not yet acquired; ``maintenance`` covers what burdens a member."""
        from etcdguard.etcd.lock import LeaseLock, lock_key

        key = lock_key(self.config.cluster.name, name)
        return LeaseLock.on(self.connection(endpoints), key, f"{self.node} pid {os.getpid()}", self.clock.now)

    def slot_marks(self) -> SlotMarks:
        """What the daemons that led have left in etcd."""
        from etcdguard.etcd.lease import SlotMarks

        return SlotMarks(self.connection(), self.config.cluster.name)

    def connection(self, endpoints: Sequence[str] = ()) -> ConnectionOptions:
        """How the configured cluster is reached, or ``endpoints`` in the same way."""
        from etcdguard.crypto.keyfile import read_key_text
        from etcdguard.etcd.connection import ConnectionOptions

        cluster = self.config.cluster
        password = cluster.password
        if password is None and cluster.password_file is not None:
            password = SecretStr(read_key_text(cluster.password_file, "password").removesuffix("\n"))
        return ConnectionOptions(
            endpoints=tuple(endpoints) or cluster.endpoints,
            cacert=cluster.cacert,
            cert=cluster.cert,
            key=cluster.key,
            user=cluster.user,
            password=password,
            server_name=cluster.server_name,
            command_timeout=cluster.command_timeout.total_seconds(),
        )

    def local_hosts(self) -> frozenset[str]:
        """The hosts among the configured endpoints that are this machine."""
        from etcdguard.etcd.connection import parse_endpoint

        hosts = {parse_endpoint(endpoint, tls=False).host for endpoint in self.config.cluster.endpoints}
        return frozenset(host for host in hosts if _is_this_machine(host))

    def is_here(self, host: str) -> bool:
        """Whether that host, by name or address, is this machine."""
        return host == self.node or _is_this_machine(host)

    # -- repositories ------------------------------------------------------------------------------------

    def catalogs(self, name: str | None = None) -> list[Catalog]:
        """The catalog of each configured repository in order, or of the one called ``name``."""
        return [self.catalog_of(self.store(repository)) for repository in self.repositories(name)]

    def repositories(self, name: str | None = None) -> tuple[Repository, ...]:
        """Every configured repository, or the one called ``name``; ConfigError where there is none."""
        configured = self.loaded.repositories()
        found = tuple(one for one in configured if name in (None, one.name))
        if name is not None and not found:
            known = ", ".join(one.name for one in configured)
            raise ConfigError(f"no repository is called {name!r}", hint=f"configured: {known}")
        return found

    def first_catalog(self, name: str | None, use: Callable[[Catalog], _Answer]) -> _Answer:
        """``use`` the cluster's catalog in the first repository that can answer: see first_store."""
        return self.first_store(name, lambda store: use(self.catalog_of(store)))

    def first_store(self, name: str | None, use: Callable[[RepositoryStore], _Answer]) -> _Answer:
        """``use`` the first repository that can answer, in configured order, saying why one was passed over.

        Raises the first repository's error when none can.
        """
        first_error: EtcdGuardError | None = None
        stores = [self.store(repository) for repository in self.repositories(name)]
        for store in stores:
            try:
                return use(store)
            except RepositoryError as error:
                if first_error is None:
                    first_error = error
                if len(stores) > 1:  # the only one's error is the command's
                    _log.warning("repository.failed", repository=store.name, error=error.message)
        if first_error is None:
            raise ConfigError("no repository is configured", hint="add one under `repositories:`")
        raise first_error

    def store(self, repository: Repository) -> RepositoryStore:
        """The store behind one configured repository, with patience for passing faults."""
        from etcdguard.storage.retry import RetryingStore, RetryPolicy

        policy = RetryPolicy() if self.patience is None else RetryPolicy(budget=self.patience)
        return RetryingStore(self._plain_store(repository), policy, rng=random.SystemRandom())

    def keep_to_schedule(self) -> None:
        """Insist on a repository for a quarter of the time between two slots at most.

        What it does not take now is shipped from the spool; a slot that passes is lost.
        """
        schedule = self.config.backup.schedule
        if schedule is not None:
            self.patience = min(120.0, schedule.shortest.total_seconds() / 4)

    def lock_rule(self, repository: Repository) -> LockRule | None:
        """The object lock that is configured for what is written there."""
        from etcdguard.storage.base import LockRule

        lock = None if repository.s3 is None else repository.s3.object_lock
        return None if lock is None else LockRule(lock.mode, lock.days)

    def _plain_store(self, repository: Repository) -> RepositoryStore:
        if repository.file is not None:
            from etcdguard.storage.file import FileStore

            return FileStore(repository.name, repository.file.path)
        from etcdguard.storage.s3 import ObjectLock, S3Options, S3Store

        s3 = repository.s3
        if s3 is None:
            raise ConfigError(f"repository {repository.name} is neither s3 nor file", hint="give one of them")
        lock = s3.object_lock
        patience = self.patience or math.inf
        options = S3Options(
            name=repository.name,
            bucket=s3.bucket,
            prefix=s3.prefix,
            endpoint_url=s3.endpoint_url,
            region=s3.region,
            addressing_style=s3.addressing_style,
            sse=s3.sse,
            sse_kms_key_id=s3.sse_kms_key_id,
            storage_class=s3.storage_class,
            ca_bundle=s3.ca_bundle,
            checksum_mode=s3.checksum_mode,
            conditional_writes=s3.conditional_writes,
            connect_timeout=min(10.0, max(1.0, patience)),
            read_timeout=min(60.0, max(3.0, patience)),
            object_lock=None if lock is None else ObjectLock(lock.mode, days=lock.days),
        )
        return S3Store(options, now=self.clock.now)

    def catalog_of(self, store: RepositoryStore) -> Catalog:
        """The configured cluster's catalog in that store."""
        from etcdguard.catalog import Catalog

        return Catalog(store, self.config.cluster.name, self.trusted_signers)

    def record(self, catalog: Catalog, kind: str, facts: Mapping[str, Any]) -> None:
        """Append an event to a repository's audit trail, signed where there is a key."""
        catalog.trail.record(kind, facts, at=self.clock.now(), actor=self.node, signer=self.signer)

    def record_verification(self, catalog: Catalog, results: Sequence[VerifyResult]) -> None:
        """Leave them in the trail; a reader who may not write there has verified all the same."""
        self._record_results(
            catalog, [{"id": one.id, "level": one.level, "outcome": one.outcome} for one in results]
        )

    def record_drill(self, catalog: Catalog, result: DrillResult) -> None:
        """The same for a drill, with everything that it saw."""
        facts = {"id": result.id, "level": "drill", "outcome": result.outcome, "drill": result.facts}
        self._record_results(catalog, [{**facts, "problems": list(result.problems)}])

    def _record_results(self, catalog: Catalog, results: Sequence[Mapping[str, Any]]) -> None:
        if self.signer is None:
            return  # an unsigned event would be believed by nobody
        try:
            self.record(catalog, "verify", {"results": results})
        except RepositoryError as error:
            _log.warning("verify.not_recorded", repository=catalog.store.name, error=error.message)

    def promise(self) -> Promise:
        """What is configured for the cluster's backups. No passphrase is read for it."""
        from etcdguard.audit.promise import Promise

        config = self.config
        retention = config.retention
        if config.encryption.passphrase_file is not None:
            recipients: tuple[str, ...] = ("scrypt",)
        else:
            recipients = tuple(sorted(one.fingerprint for one in self.recipients()))
        schedules = {
            "backup": config.backup.schedule,
            "data": config.verify.data,
            "drill": config.verify.drill,
            "prune": None if retention is None else retention.schedule,
        }
        return Promise(
            {name: schedule for name, schedule in schedules.items() if schedule is not None},
            None if retention is None else retention.policy,
            recipients,
        )

    # -- keys --------------------------------------------------------------------------------------------

    def recipients(self) -> list[Recipient]:
        """Whom backups are encrypted to; empty only where encryption is disabled in so many words."""
        from etcdguard.crypto import recipients

        encryption = self.config.encryption
        if encryption.disabled:
            return []
        if encryption.passphrase_file is not None:
            return [recipients.ScryptRecipient(recipients.read_passphrase_file(encryption.passphrase_file))]
        if encryption.recipients_file is not None:
            return list(recipients.read_recipients_file(encryption.recipients_file))
        return [recipients.parse_recipient(text) for text in encryption.recipients]

    def identities(self, identity_file: Path | None = None) -> list[Identity]:
        """What opens backups: ``identity_file``, else the configured one; WrongKey if there is none."""
        from etcdguard.crypto import recipients

        encryption = self.config.encryption
        path = identity_file or encryption.identity_file
        if path is not None:
            return list(recipients.read_identities_file(path))
        if encryption.passphrase_file is not None:
            return [recipients.ScryptIdentity(recipients.read_passphrase_file(encryption.passphrase_file))]
        if encryption.disabled:
            return []
        raise WrongKey(
            "no identity to open the backup with",
            hint="pass --identity FILE (the age identity that `etcdguard init` wrote), or set identity_file",
        )

    @cached_property
    def signer(self) -> SigningKey | None:
        """The key that manifests and events are signed with, where there is one."""
        from etcdguard.crypto.signing import SigningKey

        path = self.config.signing.key_file
        return None if path is None else SigningKey.load(path)

    @cached_property
    def trusted_signers(self) -> TrustedSigners:
        """Whose signatures are believed: the configured public keys, and our own."""
        from etcdguard.crypto.signing import PublicKey, TrustedSigners

        keys = [PublicKey.load(path) for path in self.config.signing.trusted_signers]
        own = self.config.signing.key_file
        if own is not None and own.exists():
            keys.append(self.require_signer().public)
        return TrustedSigners(keys)

    def require_signer(self) -> SigningKey:
        """The key; ConfigError where there is none."""
        if self.signer is None:
            raise ConfigError("no signing key is configured", hint="set signing.key_file")
        return self.signer

    def identity_texts(self, identity_file: Path | None) -> tuple[SecretStr, ...]:
        """The age identities that may travel to hosts; none where a passphrase or nothing opens backups."""
        from etcdguard.crypto.recipients import X25519Identity

        try:
            found = self.identities(identity_file)
        except WrongKey:
            if identity_file is not None:
                raise
            return ()  # the hosts may have their own
        return tuple(SecretStr(one.secret_text()) for one in found if isinstance(one, X25519Identity))

    # -- use cases ---------------------------------------------------------------------------------------

    def verifier(
        self,
        catalog: Catalog,
        progress: Progress,
        identity_file: Path | None = None,
        max_rate: int | None = None,
    ) -> Verifier:
        """A verifier of one repository's backups; ``max_rate`` replaces the configured one."""
        from etcdguard.pace import Pace
        from etcdguard.verify import Verifier

        pace = Pace(max_rate or self.config.verify.max_rate)
        return Verifier(catalog, lambda: self.identities(identity_file), progress, pace)


def _is_this_machine(host: str) -> bool:
    """Only an address of this machine can be bound to; a name that does not resolve is elsewhere."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    for family, kind, protocol, _, address in found:
        with suppress(OSError), socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
            return True
    return False
