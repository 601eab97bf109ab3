"""etcdguard as people run it: a process, with a configuration that ``etcdguard init`` wrote."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from etcdguard.etcd.local import LocalCluster
from tests.support.measuring import unmeasured
from tests.support.s3_servers import S3Server

__all__ = [
    "Done",
    "Installation",
    "credentials",
    "downloads",
    "files_below",
    "s3_repository",
    "tree",
]

_TIMEOUT = 150.0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What ``-o json`` printed."""
        return json.loads(self.out)

    @property
    def problem(self) -> tuple[str, str]:
        """Error and hint: one line each, in this order, and nothing else on stderr but log lines."""
        lines = [line for line in self.err.splitlines() if not line.startswith("{")]
        assert [line.partition(": ")[0] for line in lines] == ["error", "hint"], self.err
        error, hint = (line.partition(": ")[2] for line in lines)
        assert error, self.err
        assert hint, self.err
        return error, hint


class Installation:
    """A configuration with its keys, spool and file repository, all below ``folder``.

    ``settings`` is the configuration as ``init`` wrote it; change it and ``save``. ``variables`` are added to
    an environment in which nothing else configures etcdguard or AWS.
    """

    def __init__(self, folder: Path, *init_options: str, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config_path = folder / "config.yaml"
        self.identity_file = folder / "identity.txt"
        self.public_key = folder / "signing.pub.pem"
        self.repository = folder / "repository"
        self.spool = folder / "spool"
        self.variables = dict(variables or {})
        if not self.config_path.exists():
            folder.mkdir(exist_ok=True)
            self.run("init", "--cluster-name", "prod", *init_options)
        self.settings: dict[str, Any] = yaml.safe_load(self.config_path.read_text())

    @classmethod
    def of(
        cls,
        folder: Path,
        cluster: LocalCluster,
        *,
        client_certificate: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> Installation:
        """For a running cluster; ``client_certificate`` matters only where that speaks TLS."""
        made = cls(folder, variables=variables)
        made.connect(cluster, client_certificate=client_certificate)
        made.save()
        return made

    def connect(self, cluster: LocalCluster, *, client_certificate: bool = True) -> None:
        """Set how the cluster is reached, with patience for a machine that stands still for seconds."""
        section: dict[str, Any] = {
            "name": "prod",
            "endpoints": list(cluster.client_urls),
            "command_timeout": "20s",
        }
        if cluster.tls is not None:
            section["cacert"] = str(cluster.tls.ca)
            if client_certificate:
                section |= {"cert": str(cluster.tls.client_cert), "key": str(cluster.tls.client_key)}
        self.settings["cluster"] = section

    def copy(self, folder: Path) -> Installation:
        """The same once more, all of it below ``folder``."""
        shutil.copytree(self.folder, folder)
        config = folder / self.config_path.name
        config.write_text(config.read_text().replace(str(self.folder), str(folder)))
        return Installation(folder, variables=self.variables)

    def save(self) -> None:
        """Write ``settings`` to the configuration file."""
        self.config_path.write_text(yaml.safe_dump(self.settings))

    @contextmanager
    def configured(self, settings: dict[str, Any]) -> Iterator[None]:
        """With these settings for a while."""
        before, self.settings = self.settings, settings
        self.save()
        try:
            yield
        finally:
            self.settings = before
            self.save()

    def environment(self, **variables: str) -> dict[str, str]:
        """What the command sees."""
        foreign = ("ETCDGUARD_", "ETCDCTL_", "AWS_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        nothing = str(self.folder / "no-aws-files")
        isolated = {
            "AWS_CONFIG_FILE": nothing,
            "AWS_SHARED_CREDENTIALS_FILE": nothing,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return {**kept, **isolated, **self.variables, **variables}

    def argv(self, *arguments: str | Path) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", "etcdguard", *map(str, arguments), "--config", str(self.config_path)]

    def run(
        self, *arguments: str | Path, code: int | None = 0, prefix: Sequence[str] = (), **variables: str
    ) -> Done:
        """Run to the end, which must be ``code`` (None: any); ``prefix`` is a program that runs it."""
        done = subprocess.run(
            [*prefix, *self.argv(*arguments)],
            cwd=self.folder,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        assert code in (None, done.returncode), (
            f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start it and go on."""
        return self._start(arguments, self.environment(**variables))

    def start_unmeasured(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """The same for one that a signal is to interrupt, which coverage must leave alone."""
        return self._start(arguments, unmeasured(self.environment()))

    def _start(
        self, arguments: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.argv(*arguments),
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def json(self, *arguments: str | Path, code: int = 0, **variables: str) -> Any:
        """The document that a command prints."""
        return self.run(*arguments, "-o", "json", code=code, **variables).document

    def backup(self) -> str:
        """Take a backup and return its id."""
        backup_id: str = self.json("backup", "-q")["backup"]["id"]
        return backup_id

    def ids(self, *options: str) -> list[str]:
        """The ids of what is listed."""
        return [backup["id"] for backup in self.json("list", *options)["backups"]]

    def stored(self, backup_id: str) -> Path:
        """The folder of a backup in the file repository."""
        return self.repository / "prod" / "backups" / backup_id


def s3_repository(server: S3Server, bucket: str, *, name: str = "offsite", **settings: str) -> dict[str, Any]:
    """One of ``repositories``."""
    place = {
        "bucket": bucket,
        "prefix": "etcd",
        "endpoint_url": server.endpoint_url,
        "region": server.region,
        "addressing_style": "path",
    }
    return {"name": name, "s3": {**place, **settings}}


def credentials(server: S3Server) -> dict[str, str]:
    """The server's credentials as variables."""
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}


def downloads(server: S3Server, bucket: str) -> dict[str, bytes]:
    """Every object of a bucket, by a client that knows nothing of etcdguard."""
    client = server.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def files_below(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in order; what vanishes meanwhile is left out."""
    # Not rglob: Python's fails where a folder vanishes between being listed and being looked into.
    found = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    return (path for path in sorted(found) if path.is_file())


def tree(folder: Path, *, without: Sequence[str] = ()) -> dict[str, tuple[int, str]]:
    """Mode and digest of everything below a folder, except below folders named in ``without``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not set(without) & set(relative.parts):
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(relative)] = (path.stat().st_mode, content)
    return found
