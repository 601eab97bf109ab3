"""What bad-input rows are made of: the servers they meet, and the ways to break an installation."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from etcdguard.crypto.recipients import generate_identity
from etcdguard.etcd.local import LocalCluster
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.certs import KeyPair, Pki
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials
from tests.support.s3_servers import S3Server, make_bucket

__all__ = [
    "Arrange",
    "READER",
    "ROOT",
    "Row",
    "World",
    "bucket",
    "change_settings",
    "change_stored",
    "connect_to",
    "empty_repository",
    "environment",
    "expired",
    "flipped",
    "guarded",
    "in_turn",
    "mutual_tls",
    "no_backups",
    "other_identity",
    "plain",
    "raw_config",
    "replaced",
    "spool_is_a_file",
    "versity",
    "with_client",
    "write_file",
]

ROOT = Credentials("root", "correct-horse")
READER = Credentials("reader", "battery-staple")


@dataclass(frozen=True)
class World:
    """What the rows meet. ``sound`` has one backup of a cluster that is gone; each row gets a copy of it."""

    etcd: EtcdPrograms
    pki: Pki
    sound: Installation
    plain: LocalCluster
    mutual_tls: LocalCluster
    expired: LocalCluster
    guarded: LocalCluster
    seaweedfs: S3Server
    second: S3Server


Arrange = Callable[[World, Installation], None]


@dataclass(frozen=True)
class Row:
    """``command`` ends with ``code``; its two lines hold ``error`` and ``hint``."""

    name: str
    command: str
    code: int
    error: str
    hint: str
    arrange: Arrange = lambda world, here: None
    without: tuple[str, ...] = ()
    """Folders that may change: a verification is recorded in the audit trail, bad results above all."""


# -- arrangements ----------------------------------------------------------------------------------------


def in_turn(*steps: Arrange) -> Arrange:
    def arrange(world: World, here: Installation) -> None:
        for step in steps:
            step(world, here)

    return arrange


def connect_to(cluster: Callable[[World], LocalCluster], **section: Any) -> Arrange:
    """Point ``here`` at a cluster, then set or remove (None) keys of its section; Paths come from the PKI."""

    def arrange(world: World, here: Installation) -> None:
        here.connect(cluster(world))
        found = here.settings["cluster"]
        for key, value in section.items():
            found[key] = value(world) if callable(value) else value
        here.settings["cluster"] = {key: value for key, value in found.items() if value is not None}

    return arrange


def plain(world: World) -> LocalCluster:
    return world.plain


def mutual_tls(world: World) -> LocalCluster:
    return world.mutual_tls


def expired(world: World) -> LocalCluster:
    return world.expired


def guarded(world: World) -> LocalCluster:
    return world.guarded


def with_client(pair: Callable[[Pki], KeyPair]) -> dict[str, Callable[[World], str]]:
    return {
        "cert": lambda world: str(pair(world.pki).cert),
        "key": lambda world: str(pair(world.pki).key),
    }


def environment(**variables: str) -> Arrange:
    return lambda _, here: here.variables.update(variables)


def change_settings(change: Callable[[dict[str, Any]], object]) -> Arrange:
    return lambda _, here: (change(here.settings), None)[1]


def write_file(name: str, text: str) -> Arrange:
    def arrange(_: World, here: Installation) -> None:
        (here.folder / name).write_text(text)

    return arrange


def raw_config(text: str) -> Arrange:
    """The configuration is not what ``settings`` says, but this."""

    def arrange(_: World, here: Installation) -> None:
        here.config_path.write_text(text)
        here.settings = {}

    return arrange


def bucket(
    server: Callable[[World], S3Server] = lambda world: world.seaweedfs,
    variables: dict[str, str] | None = None,
    **place: str,
) -> Arrange:
    """The only repository is a new bucket, with other facts about it in ``place``."""

    def arrange(world: World, here: Installation) -> None:
        there = server(world)
        facts = {"bucket": place["bucket"] if "bucket" in place else make_bucket(there), **place}
        here.settings["repositories"] = [s3_repository(there, **facts)]
        here.variables.update(credentials(there) if variables is None else variables)

    return arrange


def versity(world: World) -> S3Server:
    if world.second.name != "versitygw":
        pytest.skip(f"{world.second.name} accepts any region")
    return world.second


def change_stored(name: str, change: Callable[[bytes], bytes | None]) -> Arrange:
    """Change one file of the backup, or remove it (None)."""

    def arrange(_: World, here: Installation) -> None:
        (path,) = here.repository.glob(f"prod/backups/*/{name}")
        changed = change(path.read_bytes())
        path.unlink()
        if changed is not None:
            path.write_bytes(changed)

    return arrange


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert content.count(old) == 1
        return content.replace(old, new)

    return change


def no_backups(_: World, here: Installation) -> None:
    shutil.rmtree(here.repository / "prod")


def empty_repository(_: World, here: Installation) -> None:
    shutil.rmtree(here.repository)
    here.repository.mkdir()


def other_identity(_: World, here: Installation) -> None:
    (here.folder / "other.txt").write_text(generate_identity().secret_text() + "\n")


def spool_is_a_file(_: World, here: Installation) -> None:
    shutil.rmtree(here.spool)
    here.spool.write_text("")
