"""The configuration as frozen types: attribute names are the YAML keys (docs/configuration.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

from etcdguard.config.scalars import (
    Address,
    BucketName,
    CalendarPeriod,
    Duration,
    Endpoint,
    HostPath,
    HttpUrl,
    Invalid,
    LocalPath,
    MemberUrl,
    Name,
    Prefix,
    RecipientText,
    ScheduleText,
    SecretUrl,
    Size,
    SshDestination,
    UnitName,
    parse_duration,
)
from etcdguard.config.thresholds import read_limits
from etcdguard.maintenance.checks.thresholds import Thresholds
from etcdguard.retention import Policy

__all__ = [
    "Backup",
    "Checks",
    "Cluster",
    "Config",
    "ControlPlane",
    "Daemon",
    "Defrag",
    "Encryption",
    "FileRepository",
    "Member",
    "Notify",
    "ObjectLock",
    "Repository",
    "Restore",
    "Retention",
    "S3Repository",
    "Section",
    "Service",
    "Signing",
    "Verify",
]


class Section(BaseModel):
    """Immutable, strictly typed, and closed: a key that is not listed is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Cluster(Section):
    """How to reach etcd, and the name its backups stand under in every repository."""

    name: Name
    endpoints: Annotated[tuple[Endpoint, ...], Field(min_length=1)] = ("127.0.0.1:2379",)
    cacert: LocalPath | None = None
    cert: LocalPath | None = None
    key: LocalPath | None = None
    user: str | None = None
    password: SecretStr | None = None
    """Only ever from the environment; the file is refused if it holds one."""
    password_file: LocalPath | None = None
    server_name: str | None = None
    """The name expected in the server's certificate, where it is not the host of the endpoint."""
    command_timeout: Duration = parse_duration("5s")
    metrics_urls: tuple[MemberUrl, ...] = ()
    """Where members serve ``/metrics``, in any order; by default at the endpoints."""

    @model_validator(mode="after")
    def _check(self) -> Cluster:
        if (self.cert is None) != (self.key is None):
            missing = "key" if self.key is None else "cert"
            raise Invalid(f"cert and key belong together, {missing} is missing", f"set {missing} as well")
        if self.user is None and (self.password or self.password_file):
            raise Invalid("there is a password but no user", "set user as well")
        return self


class Service(Section):
    """What runs etcd on a member's host."""

    kind: Literal["systemd", "static-pod"]
    unit: UnitName | None = None
    manifest: HostPath | None = None
    user: str | None = None
    group: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Service:
        wanted, other = ("unit", "manifest") if self.kind == "systemd" else ("manifest", "unit")
        if getattr(self, wanted) is None or getattr(self, other) is not None:
            raise Invalid(f"a {self.kind} service has a {wanted} and no {other}", f"set {wanted} alone")
        return self


class ControlPlane(Section):
    """What uses etcd on a member's host: stopped before it, started after it."""

    units: tuple[UnitName, ...] = ()
    manifests: tuple[HostPath, ...] = ()
    restart_kubelet: bool = False


class Member(Section):
    """One member as it shall be restored."""

    name: Name
    host: SshDestination | None = None
    ssh: SshDestination | None = None
    peer_urls: Annotated[tuple[MemberUrl, ...], Field(min_length=1)]
    client_urls: tuple[MemberUrl, ...] = ()
    data_dir: HostPath
    wal_dir: HostPath | None = None
    service: Service | None = None
    control_plane: ControlPlane | None = None
    """None: beside a static pod's manifest kubeadm's three others, as far as the host has them."""


class ObjectLock(Section):
    """Object lock asked of the store for every object, counted from when it is written."""

    mode: Literal["GOVERNANCE", "COMPLIANCE"]
    days: Annotated[int, Field(ge=1)]


class S3Repository(Section):
    """An S3 bucket. Credentials come from boto3's own chain, never from here."""

    bucket: BucketName
    prefix: Prefix = ""
    endpoint_url: HttpUrl | None = None
    region: str | None = None
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    sse: Literal["AES256", "aws:kms"] | None = None
    sse_kms_key_id: str | None = None
    object_lock: ObjectLock | None = None
    storage_class: str | None = None
    ca_bundle: LocalPath | None = None
    checksum_mode: Literal["when_required", "when_supported"] | None = None
    """None: ``when_required`` with a custom endpoint_url, else ``when_supported``."""
    conditional_writes: Literal["required", "emulated"] = "required"
    """``emulated`` looks before it writes, for stores that ignore If-None-Match and have one writer only."""

    @model_validator(mode="after")
    def _check(self) -> S3Repository:
        if self.sse_kms_key_id is not None and self.sse != "aws:kms":
            raise Invalid("sse_kms_key_id needs sse: aws:kms", "set sse: aws:kms or remove sse_kms_key_id")
        return self


class FileRepository(Section):
    """A directory on this machine."""

    path: LocalPath


class Repository(Section):
    """One place backups are kept in."""

    name: Name
    s3: S3Repository | None = None
    file: FileRepository | None = None

    @model_validator(mode="after")
    def _check(self) -> Repository:
        if (self.s3 is None) == (self.file is None):
            raise Invalid("a repository is either s3 or file", "give exactly one of s3 and file")
        return self


class Encryption(Section):
    """Whom backups are encrypted to, and what opens them."""

    recipients: tuple[RecipientText, ...] = ()
    recipients_file: LocalPath | None = None
    passphrase_file: LocalPath | None = None
    identity_file: LocalPath | None = None
    disabled: bool = False

    @model_validator(mode="after")
    def _check(self) -> Encryption:
        ways = [self.recipients, self.recipients_file, self.passphrase_file]
        given = sum(1 for way in ways if way)
        if self.disabled:
            if given or self.identity_file:
                raise Invalid("disabled: true goes alone", "remove the other keys of encryption, or disabled")
        elif given != 1:
            raise Invalid(
                "needs exactly one of recipients, recipients_file and passphrase_file",
                "give one of them; only `disabled: true` stores backups in clear",
            )
        return self


class Signing(Section):
    """The key manifests are signed with, and the public keys that are believed (PEM files)."""

    key_file: LocalPath | None = None
    trusted_signers: tuple[LocalPath, ...] = ()

    @property
    def required(self) -> bool:
        """Whether what nobody trusted has signed is believed by nobody."""
        return bool(self.key_file or self.trusted_signers)


def parse_snapshot_rate(rate: int) -> int:
    """Bytes a second, if that is no rate at which a snapshot takes hours; raises Invalid.

    While a snapshot is read, bbolt frees no pages, and the database grows with every write.
    """
    if rate < 2**20:
        raise Invalid(
            "less than 1MiB a second", "a snapshot must not take hours: write 20MiB, or leave it out"
        )
    return rate


SnapshotRate = Annotated[Size, AfterValidator(parse_snapshot_rate)]


class Backup(Section):
    """How a snapshot is taken."""

    schedule: ScheduleText | None = None
    """When a backup is due."""
    emergency: Duration | None = parse_duration("1h")
    """Without a quorum: at most one backup in this time from this node's own member; None takes none."""
    prefer: Literal["follower", "local", "leader"] = "follower"
    compression_level: Annotated[int, Field(ge=1, le=19)] = 1
    spool_dir: LocalPath = Path("/var/lib/etcdguard/spool")
    timeout: Duration = parse_duration("1h")
    stall_timeout: Duration = parse_duration("30s")
    hash_kv_timeout: Duration = parse_duration("3s")
    """HashKV is recorded when the member can be expected to answer in this time."""
    max_bytes: Size = 16 * 2**30
    """Refuse a snapshot that grows past this."""
    max_rate: SnapshotRate | None = None
    """Bytes a second to read from the member at most."""


Count = Annotated[int, Field(ge=0)]

Share = Annotated[float, Field(gt=0, lt=1)]


class Retention(Section):
    """Which backups a prune keeps. An absent section keeps everything."""

    keep_last: Count = 0
    keep_hourly: Count = 0
    keep_daily: Count = 0
    keep_weekly: Count = 0
    keep_monthly: Count = 0
    keep_yearly: Count = 0
    keep_within: CalendarPeriod | None = None
    min_verified: Annotated[int, Field(ge=1)] = 1
    max_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of a repository's backups, at most so many may go at once."""
    schedule: ScheduleText | None = None
    """When the daemon prunes."""

    @model_validator(mode="after")
    def _check(self) -> Retention:
        numbers = (self.keep_last, self.keep_hourly, self.keep_daily, self.keep_weekly)
        if not any((*numbers, self.keep_monthly, self.keep_yearly, self.keep_within)):
            raise Invalid("keeps nothing", "set a keep_* rule, or remove the section to keep everything")
        return self

    @property
    def policy(self) -> Policy:
        """The rules."""
        return Policy(**{each.name: getattr(self, each.name) for each in fields(Policy)})


class Verify(Section):
    """When the data check and the restore drill are due, and what they may take."""

    data: ScheduleText | None = None
    drill: ScheduleText | None = None
    max_rate: Size | None = None
    """Bytes a second read from a repository by a data check, over all backups that are verified at once."""
    parallel: Annotated[int, Field(ge=1, le=16)] = 2
    """So many backups are verified at once."""


class Defrag(Section):
    """When members are considered for defragmentation, which are worth it, and what may be risked for it."""

    schedule: ScheduleText | None = None
    fragmentation: Share = 0.45
    min_size: Size = 100 * 2**20
    min_free: Size = 100 * 2**20
    quota_usage: Share = 0.8
    quota: Size | None = None
    """Only where etcd tells its quota neither in its status nor in its metrics."""
    at_most_every: Duration = parse_duration("24h")
    backup_age: Duration = parse_duration("1h")
    settle: Duration = parse_duration("30s")
    max_duration: Duration = parse_duration("1m")
    disk_reserve: Size = 512 * 2**20
    compact_age: Duration = parse_duration("5m")
    small_clusters: bool = False
    """One or two voters: the cluster stops while one of them is defragmented."""


class Checks(Section):
    """Health checks: their interval, and thresholds by check name."""

    schedule: ScheduleText | None = None
    window: Duration = parse_duration("5s")
    """Between two looks at counters that only tell something over time."""
    thresholds: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> Checks:
        read_limits(self.thresholds)
        return self

    @property
    def limits(self) -> Thresholds:
        """All thresholds."""
        return Thresholds(read_limits(self.thresholds))


class Restore(Section):
    """A restore over several hosts."""

    state_dir: LocalPath = Path("/var/lib/etcdguard/restore")
    """The journals of restores, on every host."""


class Daemon(Section):
    """The long-running process."""

    listen: Address | None = "127.0.0.1:9379"
    """Where the status page and the metrics are; null: nowhere."""
    election: bool = True
    """Whether one daemon of the cluster acts, by a lock in etcd, or every one."""
    catch_up: bool = True
    """Whether a job whose time passed while no daemon ran is made up for."""
    ship: Duration = parse_duration("1m")
    """How often what waits in the spool is offered to the repositories."""
    state_dir: LocalPath = Path("/var/lib/etcdguard/daemon")
    """What this node's daemon remembers of the cluster."""
    job_timeout: Duration = parse_duration("3h")
    """A job that takes longer is ended."""


class Webhook(Section):
    """Somebody who is told when something is wrong."""

    url: SecretUrl
    format: Literal["json", "slack"] = "json"


def _webhook(value: Any) -> Any:
    """A URL alone is a webhook in the usual format."""
    return {"url": value} if isinstance(value, str) else value


class Notify(Section):
    """Who is told."""

    webhooks: tuple[Annotated[Webhook, BeforeValidator(_webhook)], ...] = ()


class Config(Section):
    """Everything the file, the environment and the flags say."""

    cluster: Cluster
    members: tuple[Member, ...] = ()
    repositories: tuple[Repository, ...] = ()
    encryption: Encryption
    signing: Signing = Signing()
    backup: Backup = Backup()
    retention: Retention | None = None
    verify: Verify = Verify()
    defrag: Defrag = Defrag()
    checks: Checks = Checks()
    restore: Restore = Restore()
    daemon: Daemon = Daemon()
    notify: Notify = Notify()

    @model_validator(mode="after")
    def _check(self) -> Config:
        _unique("members", (member.name for member in self.members))
        _unique("repositories", (repository.name for repository in self.repositories))
        return self


def _unique(section: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Invalid(f"two {section} are named {name!r}", "give each its own name")
        seen.add(name)
