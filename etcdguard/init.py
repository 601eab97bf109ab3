"""``etcdguard init``: the first configuration, an age identity and a signing key, and nothing overwritten."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etcdguard.crypto.recipients import generate_identity
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import EtcdGuardError, Refused, UsageError
from etcdguard.storage.durable import make_folders, sync
from etcdguard.storage.file import FileStore

__all__ = ["NewFile", "Plan", "Request", "S3Place", "execute", "parse_repository", "plan"]

REPOSITORY_NAME = "main"


@dataclass(frozen=True)
class S3Place:
    """A bucket and the key prefix in it, possibly empty."""

    bucket: str
    prefix: str


@dataclass(frozen=True)
class Request:
    """What the configuration shall say. Paths are absolute."""

    config_path: Path
    cluster_name: str
    repository: Path | S3Place
    spool_dir: Path
    restore_dir: Path
    daemon_dir: Path
    """Where restores keep their journals."""
    connection: Mapping[str, str | Sequence[str]]
    """Keys of the section ``cluster`` that were given."""


@dataclass(frozen=True)
class NewFile:
    """A file to be made with mode 0600."""

    path: Path
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class Plan:
    """What will be written, key files first and the configuration last."""

    config: NewFile
    identity: NewFile
    signing_key: NewFile
    public_key: NewFile
    repository: Path | S3Place
    spool_dir: Path
    recipient: str
    signer: str
    """Fingerprint of the public signing key."""

    @property
    def files(self) -> tuple[NewFile, ...]:
        """In the order in which they are written."""
        return (self.identity, self.signing_key, self.public_key, self.config)


def parse_repository(text: str) -> Path | S3Place:
    """``s3://bucket/prefix``, or a path. Raises UsageError for any other scheme."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).absolute()
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise UsageError(
            f"not a repository: {text!r}", hint="write a path of this machine, or s3://BUCKET[/PREFIX]"
        )
    return S3Place(bucket, prefix.strip("/"))


def plan(request: Request) -> Plan:
    """Make fresh keys and the text of everything; nothing is written yet."""
    identity = generate_identity()
    signing_key = SigningKey.generate()
    folder = request.config_path.parent
    recipient = str(identity.recipient)
    names = ("identity.txt", "signing.key.pem", "signing.pub.pem")
    identity_file, key_file, public_file = (folder / name for name in names)
    return Plan(
        config=NewFile(request.config_path, _config_text(request, recipient, names).encode()),
        identity=NewFile(identity_file, f"# public key: {recipient}\n{identity.secret_text()}\n".encode()),
        signing_key=NewFile(key_file, signing_key.private_pem()),
        public_key=NewFile(public_file, signing_key.public.pem()),
        repository=request.repository,
        spool_dir=request.spool_dir,
        recipient=recipient,
        signer=signing_key.public.fingerprint,
    )


def execute(plan: Plan) -> None:
    """Make the directories and files of the plan: all of the files, or none.

    Raises Refused, with nothing changed, if one of them exists, and EtcdGuardError if one cannot be written.
    """
    _refuse_existing(file.path for file in plan.files)
    if isinstance(plan.repository, Path):
        FileStore.create(REPOSITORY_NAME, plan.repository)
    made: list[Path] = []
    try:
        make_folders(plan.spool_dir)
        for file in plan.files:
            _create(file)
            made.append(file.path)
    except OSError as e:
        raise EtcdGuardError(
            f"cannot write {e.filename or plan.config.path}: {e.strerror}",
            hint="run as root, or choose places of your own with --config, --repository and --spool-dir",
        ) from e
    finally:
        if len(made) < len(plan.files):
            for path in made:
                path.unlink()


def _refuse_existing(paths: Iterable[Path]) -> None:
    existing = [str(path) for path in paths if os.path.lexists(path)]
    if existing:
        raise Refused(
            f"already there and not overwritten: {', '.join(existing)}",
            hint="a lost identity is lost backups: move these files to a safe place first, or use --config",
        )


def _create(file: NewFile) -> None:
    """Make the file whole and durable at a name that must be free; raises Refused if it is not."""
    make_folders(file.path.parent)
    staged = file.path.with_name(f".{file.path.name}.{secrets.token_hex(8)}")
    fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as stream:
            stream.write(file.content)
            stream.flush()
            os.fsync(fd)
        try:
            os.link(staged, file.path)
        except FileExistsError:
            _refuse_existing([file.path])
            raise
    finally:
        staged.unlink()
    try:
        sync(file.path.parent)
    except OSError:
        file.path.unlink()  # or the next try is refused because of it
        raise


def _config_text(request: Request, recipient: str, names: tuple[str, str, str]) -> str:
    identity_file, key_file, public_file = names
    cluster = {"name": request.cluster_name, **request.connection}
    return "\n".join(
        [
            "# Written by `etcdguard init`. Every key is explained in docs/configuration.md.",
            "",
            "cluster:",
            *(f"  {key}: {_yaml(value)}" for key, value in cluster.items()),
            "",
            "repositories:",
            f"  - name: {REPOSITORY_NAME}",
            f"    {_repository_text(request.repository)}",
            "",
            "encryption:",
            f"  recipients: [{_yaml(recipient)}]",
            "  # Opens every backup, and backing up does not need it: keep it offline, in two places, and",
            "  # bring it back only to verify or restore.",
            f"  identity_file: {identity_file}",
            "",
            "signing:",
            f"  key_file: {key_file}",
            f"  trusted_signers: [{public_file}]",
            "",
            "backup:",
            "  schedule: 1h",
            f"  spool_dir: {_yaml(str(request.spool_dir))}",
            "",
            "restore:",
            f"  state_dir: {_yaml(str(request.restore_dir))}",
            "",
            "daemon:",
            f"  state_dir: {_yaml(str(request.daemon_dir))}",
            "",
        ]
    )


def _repository_text(repository: Path | S3Place) -> str:
    if isinstance(repository, Path):
        return f"file: {{path: {_yaml(str(repository))}}}"
    prefix = f", prefix: {_yaml(repository.prefix)}" if repository.prefix else ""
    return f"s3: {{bucket: {_yaml(repository.bucket)}{prefix}}}"


def _yaml(value: str | Sequence[str]) -> str:
    """JSON is YAML, and quotes whatever needs quotes."""
    return json.dumps(value if isinstance(value, str) else list(value))
