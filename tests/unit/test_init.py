from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from etcdguard import init
from etcdguard.config import load
from etcdguard.crypto.recipients import parse_recipient, read_identities_file
from etcdguard.crypto.signing import PublicKey, SigningKey
from etcdguard.errors import EtcdGuardError, Refused, UsageError
from etcdguard.storage.file import FileStore


def _request(folder: Path, repository: Path | init.S3Place | None = None) -> init.Request:
    return init.Request(
        config_path=folder / "etc" / "config.yaml",
        cluster_name="prod",
        repository=repository or folder / "repository",
        spool_dir=folder / "spool",
        restore_dir=folder / "restore",
        daemon_dir=folder / "daemon",
        connection={"endpoints": ("https://a:2379", "b:2379"), "user": 'odd "name" #'},
    )


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_written_loads_and_belongs_together(tmp_path: Path) -> None:
    plan = init.plan(_request(tmp_path))
    init.execute(plan)
    config = load(plan.config.path, {}, {}).config
    assert config.cluster.name == "prod"
    assert config.cluster.endpoints == ("https://a:2379", "b:2379")
    assert config.cluster.user == 'odd "name" #'
    assert config.backup.spool_dir == tmp_path / "spool"
    assert config.restore.state_dir == tmp_path / "restore"
    assert config.daemon.state_dir == tmp_path / "daemon"
    assert config.encryption.identity_file is not None
    (identity,) = read_identities_file(config.encryption.identity_file)
    (recipient,) = config.encryption.recipients
    assert str(identity.recipient) == str(parse_recipient(recipient)) == plan.recipient
    assert config.signing.key_file is not None
    (trusted,) = config.signing.trusted_signers
    signer = SigningKey.load(config.signing.key_file)
    assert signer.public.fingerprint == PublicKey.load(trusted).fingerprint == plan.signer


def test_the_repository_and_the_spool_can_be_used(tmp_path: Path) -> None:
    init.execute(init.plan(_request(tmp_path)))
    store = FileStore("main", tmp_path / "repository")
    store.put("a/b", b"c")
    assert [info.key for info in store.list("")] == ["a/b"]
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_an_s3_repository_makes_no_folder(tmp_path: Path) -> None:
    plan = init.plan(_request(tmp_path, init.S3Place("backups", "etcd/prod")))
    init.execute(plan)
    (repository,) = load(plan.config.path, {}, {}).config.repositories
    assert repository.s3 is not None
    assert (repository.s3.bucket, repository.s3.prefix) == ("backups", "etcd/prod")
    assert not (tmp_path / "repository").exists()


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        plan = init.plan(_request(tmp_path))
        init.execute(plan)
    finally:
        os.umask(old)
    assert {stat.S_IMODE(file.path.stat().st_mode) for file in plan.files} == {0o600}
    assert stat.S_IMODE(plan.config.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("index", range(4))
def test_nothing_is_written_when_one_file_exists(tmp_path: Path, index: int) -> None:
    plan = init.plan(_request(tmp_path))
    taken = plan.files[index].path
    taken.parent.mkdir()
    taken.symlink_to("/nowhere")  # a dangling link is in the way too
    with pytest.raises(Refused, match=f"not overwritten: {taken}$"):
        init.execute(plan)
    assert [path for path in tmp_path.rglob("*") if path != taken.parent] == [taken]


def test_a_file_that_appears_meanwhile_is_kept_and_ours_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = init.plan(_request(tmp_path))
    link = os.link

    def racing(source: Path, target: Path) -> None:
        if target == plan.config.path:
            target.write_text("theirs")
        link(source, target)

    monkeypatch.setattr(os, "link", racing)
    with pytest.raises(Refused):
        init.execute(plan)
    assert _files(tmp_path) == {"etc/config.yaml"}
    assert plan.config.path.read_text() == "theirs"


@pytest.mark.parametrize("is_met", [stat.S_ISREG, stat.S_ISDIR], ids=["of a file", "of its folder"])
def test_a_disk_error_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_met: Callable[[int], bool]
) -> None:
    (tmp_path / "etc").mkdir()
    synced = 0

    def full(fd: int) -> None:
        nonlocal synced
        at_home = Path(f"/proc/self/fd/{fd}").readlink().is_relative_to(tmp_path / "etc")
        synced += at_home and is_met(os.fstat(fd).st_mode)
        if synced == 3:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(EtcdGuardError, match="No space left on device") as caught:
            init.execute(init.plan(_request(tmp_path)))
    assert synced == 3
    assert caught.value.exit_code == 1
    assert "--config" in caught.value.hint
    assert _files(tmp_path) == set()
    init.execute(init.plan(_request(tmp_path)))


def test_secrets_are_not_in_the_repr(tmp_path: Path) -> None:
    assert "AGE-SECRET-KEY" not in repr(init.plan(_request(tmp_path)))
    assert "PRIVATE KEY" not in repr(init.plan(_request(tmp_path)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://b", init.S3Place("b", "")),
        ("s3://b/", init.S3Place("b", "")),
        ("s3://b/p/q/", init.S3Place("b", "p/q")),
        ("/srv/r", Path("/srv/r")),
        ("r", Path.cwd() / "r"),
    ],
)
def test_repositories(text: str, expected: Path | init.S3Place) -> None:
    assert init.parse_repository(text) == expected


@pytest.mark.parametrize("text", ["s3://", "s3:///p", "gs://b/p", "file:///p"])
def test_not_repositories(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        init.parse_repository(text)
    assert "s3://BUCKET" in caught.value.hint
