"""Object lock on real S3 servers: everything is locked, `check repository` reads it back, prune leaves it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import StoreUnavailable
from etcdguard.maintenance.lock_check import check_object_lock
from etcdguard.maintenance.results import CheckResult, Outcome
from etcdguard.storage.base import LockRule
from etcdguard.storage.s3 import ObjectLock, S3Store
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.backups import ManualClock, Node, database
from tests.support.fake_source import FakeSource
from tests.support.s3_servers import S3Server, make_bucket

DAYS = 3
VALUE_BYTES = 25_000
"""Of 300 values: more than one part."""


@dataclass
class Scene:
    """An installation whose bucket can lock."""

    here: Installation
    server: S3Server
    bucket: str

    def configure(self, mode: str | None, **retention: Any) -> None:
        repository: dict[str, Any] = s3_repository(self.server, self.bucket)
        if mode is not None:
            repository["s3"]["object_lock"] = {"mode": mode, "days": DAYS}
        self.here.settings["repositories"] = [repository]
        self.here.settings["retention"] = retention or {"keep_last": 1, "max_fraction": 1.0}
        self.here.save()

    def store(self, mode: Any | None) -> S3Store:
        options = self.server.options(self.bucket, "etcd")
        if mode is not None:
            options = replace(options, object_lock=ObjectLock(mode, days=DAYS))
        return S3Store(options, session=self.server.session(), now=lambda: datetime.now(timezone.utc))

    def backup(self, mode: str | None, revision: int) -> str:
        node = Node(
            self.here.folder / "node",
            clock=ManualClock(datetime.now(timezone.utc) - timedelta(minutes=1)),
            signer=SigningKey.load(self.here.folder / "signing.key.pem"),
        )
        source = FakeSource(database(revision, value_bytes=VALUE_BYTES))
        return node.run(source, self.store(mode)).backup.id

    def locks(self) -> dict[str, tuple[str | None, datetime | None]]:
        """Of every object, by a client that knows nothing of etcdguard."""
        client = self.server.client()
        found: dict[str, tuple[str | None, datetime | None]] = {}
        for item in client.list_objects_v2(Bucket=self.bucket)["Contents"]:
            head = client.head_object(Bucket=self.bucket, Key=item["Key"])
            found[item["Key"]] = (head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate"))
        return found

    def check(self, code: int = 0) -> dict[str, dict[str, Any]]:
        document = self.here.json("check", "repository", code=code)
        return {one["name"].removeprefix("repository.offsite."): one for one in document["checks"]}


@pytest.fixture
def scene(tmp_path: Path, s3_server: S3Server) -> Scene:
    here = Installation(tmp_path / "here", variables=credentials(s3_server))
    return Scene(here, s3_server, make_bucket(s3_server, object_lock=True))


@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_everything_is_locked_and_the_check_reads_it_back(scene: Scene, mode: str) -> None:
    scene.configure(mode)
    assert scene.check()["locked-backup"]["outcome"] == "SKIP"
    backup_id = scene.backup(mode, 300)
    locks = {key: lock for key, lock in scene.locks().items() if backup_id in key}
    assert {key.rpartition("/")[2] for key in locks} == {
        "snapshot.db.zst.age",
        "manifest.json",
        "manifest.json.sig",
    }
    least = datetime.now(timezone.utc) + timedelta(days=DAYS) - timedelta(minutes=5)
    for lock_mode, until in locks.values():
        assert lock_mode == mode
        assert until is not None
        assert until > least
    found = scene.check()
    for name in ("object-lock", "locked-backup"):
        assert (found[name]["outcome"], found[name]["threshold"]) == ("OK", f"{mode} for {DAYS} days")
    assert found["object-lock"]["value"].startswith(f"2 objects {mode} until ")
    assert found["locked-backup"]["value"].startswith(f"3 objects {mode} until ")

    client = scene.server.client()
    for key in locks:
        versions = client.list_object_versions(Bucket=scene.bucket, Prefix=key)["Versions"]
        version = next(one["VersionId"] for one in versions if one["Key"] == key)
        with pytest.raises(ClientError):
            client.delete_object(Bucket=scene.bucket, Key=key, VersionId=version)


def test_a_prune_leaves_what_is_locked_and_says_until_when(scene: Scene) -> None:
    scene.configure("COMPLIANCE")
    ids = [scene.backup("COMPLIANCE", 30), scene.backup("COMPLIANCE", 31)]
    document = scene.here.json("prune", "--confirm")
    assert document["remove"] == []
    kept = {one["id"]: one["reasons"] for one in document["keep"]}
    assert kept[ids[0]][0].startswith("locked by the store until ")
    assert scene.here.ids() == ids


def test_a_backup_that_is_not_locked_as_configured_is_told(scene: Scene) -> None:
    scene.configure("COMPLIANCE")
    scene.backup(None, 30)
    found = scene.check(code=10)
    assert found["object-lock"]["outcome"] == "OK"
    assert found["locked-backup"]["outcome"] == "FAIL"
    assert found["locked-backup"]["value"].count("is not locked") == 3
    scene.backup("GOVERNANCE", 31)
    assert scene.check(code=10)["locked-backup"]["value"].count("is locked in mode GOVERNANCE") == 3
    scene.here.settings["repositories"][0]["s3"]["object_lock"] = {"mode": "GOVERNANCE", "days": DAYS + 1}
    scene.here.save()
    assert scene.check(code=10)["locked-backup"]["value"].count(" only") == 3


def test_a_bucket_without_object_lock_is_told(scene: Scene) -> None:
    scene.bucket = make_bucket(scene.server)
    scene.configure("GOVERNANCE")
    found = scene.check(code=10)
    assert "FAIL" in {found["write"]["outcome"], found["object-lock"]["outcome"]}


def _lines(store: S3Store) -> list[CheckResult]:
    wanted = LockRule("COMPLIANCE", DAYS)
    return check_object_lock(store, "prod", wanted, lambda: None, now=datetime.now(timezone.utc))


def test_a_store_that_ignores_the_lock_is_told(scene: Scene) -> None:
    """The server itself is asked; the lock never reached it, as with a store that drops what it ignores."""
    store = scene.store(None)
    ignored, nothing = _lines(store)
    assert ignored.outcome is Outcome.FAIL
    assert ignored.value.count("is not locked") == 2
    assert "-multipart is not locked" in ignored.value
    assert nothing.outcome is Outcome.SKIP
    assert [info.key for info in store.list("")] == []
    assert [line.outcome for line in _lines(scene.store("COMPLIANCE"))] == [Outcome.OK, Outcome.SKIP]


def test_a_store_that_is_away_is_a_failed_line(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(key: str) -> None:
        raise StoreUnavailable(f"cannot read the lock of {key}", hint="wait")

    store = scene.store("GOVERNANCE")
    monkeypatch.setattr(store, "lock", away)
    assert _lines(store)[0].outcome is Outcome.FAIL
