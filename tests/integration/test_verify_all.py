"""``verify --all --level data`` as a process over a real S3 server: killed, taken up again, told apart."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from etcdguard.crypto.recipients import Identity, generate_identity, read_identities_file
from etcdguard.crypto.signing import SigningKey
from etcdguard.storage.s3 import S3Store
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.backups import ManualClock, Node, database
from tests.support.fake_source import FakeSource
from tests.support.s3_servers import S3Server, make_bucket

BACKUPS = 10
VALUE_BYTES = 15_000
"""Of twenty values that do not compress: 300 KB a backup."""
ALL = ("verify", "--all", "--level", "data", "-q")


class Scene:
    """An installation whose repository has ten backups."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        bucket = make_bucket(server)
        self.here = Installation(folder / "here", variables=credentials(server))
        self.here.settings["repositories"] = [s3_repository(server, bucket)]
        self.here.save()
        self.store = S3Store(server.options(bucket, "etcd"), session=server.session())
        self.signer = SigningKey.load(self.here.folder / "signing.key.pem")
        (self.identity,) = read_identities_file(self.here.identity_file)
        self.clock = ManualClock()
        self.ids: list[str] = []
        for _ in range(BACKUPS):
            self.backup(self.identity)

    def backup(self, identity: Any) -> str:
        node = Node(
            self.here.folder / "node",
            clock=self.clock,
            signer=self.signer,
            options={"recipients": [identity.recipient]},
        )
        source = FakeSource(database(20 + len(self.ids), value_bytes=VALUE_BYTES))
        self.ids.append(node.run(source, self.store).backup.id)
        return self.ids[-1]

    def on_record(self) -> dict[str, str]:
        """Backup id to outcome, of all events whose signature is there."""
        keys = {info.key for info in self.store.list("prod/events/")}
        found: dict[str, str] = {}
        for key in sorted(keys):
            if "-verify-" in key and key + ".sig" in keys:
                event = json.loads(b"".join(self.store.get(key)))
                found |= {result["id"]: result["outcome"] for result in event["results"]}
        return found

    def results(self, *flags: str, code: int = 0) -> dict[str, str]:
        document = self.here.json(*ALL, *flags, code=code)
        return {result["id"]: result["outcome"] for result in document["results"]}


@pytest.fixture
def scene(tmp_path: Path, seaweedfs_server: S3Server) -> Scene:
    return Scene(tmp_path, seaweedfs_server)


def test_killed_in_the_midst_it_goes_on_where_it_was(scene: Scene) -> None:
    with scene.here.start(*ALL, "--max-rate", "50KiB") as process:  # which takes a minute
        deadline = time.monotonic() + 120
        while not scene.on_record():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.kill()
        process.communicate()
    done = scene.on_record()
    assert 0 < len(done) < BACKUPS
    expected = {backup_id: "skipped" if backup_id in done else "ok" for backup_id in scene.ids}
    assert scene.results("--max-age", "1d") == expected
    assert scene.on_record() == dict.fromkeys(scene.ids, "ok")
    assert {one["verified_level"] for one in scene.here.json("list")["backups"]} == {"data"}
    assert scene.results("--max-age", "1d") == dict.fromkeys(scene.ids, "skipped")
    assert scene.results() == dict.fromkeys(scene.ids, "ok")


def test_other_keys_and_damage_are_told_apart_and_shown(scene: Scene) -> None:
    other: Identity = generate_identity()
    theirs = scene.backup(other)
    ours = scene.ids[:BACKUPS]
    assert scene.results(code=12) == {**dict.fromkeys(ours, "ok"), theirs: "unverifiable"}
    assert "1 of 11 backups are for other keys" in scene.here.run(*ALL, "--parallel", "4", code=12).problem[0]
    assert scene.on_record() == dict.fromkeys(ours, "ok")

    damaged = f"prod/backups/{ours[3]}/snapshot.db.zst.age"
    body = bytearray(b"".join(scene.store.get(damaged)))
    body[-100] ^= 1
    scene.store.put(damaged, bytes(body))
    found = scene.results(code=13)
    assert found == {**dict.fromkeys(ours, "ok"), ours[3]: "failed", theirs: "unverifiable"}

    listed = {one["id"]: one for one in scene.here.json("list")["backups"]}
    told = {backup_id: (one["verified_level"], one["failed_level"]) for backup_id, one in listed.items()}
    assert told == {**dict.fromkeys(ours, ("data", None)), ours[3]: (None, "data"), theirs: (None, None)}
    table = scene.here.run("list").out.splitlines()
    assert [line.split()[0] for line in table if "FAILED data" in line] == [ours[3]]
    assert "FAILED data" in scene.here.run("show", ours[3]).out
    assert scene.here.json("show", ours[0])["backup"]["verified_level"] == "data"


@pytest.mark.parametrize(
    "flags",
    [
        ("latest", "--max-age", "1d"),
        ("latest", "--parallel", "2"),
        ("--all", "--level", "manifest", "--max-rate", "1MiB"),
        ("--all", "--max-age", "soon"),
        ("--all", "--max-age", "0d"),
        ("--all", "--max-rate", "fast"),
        ("--all", "--max-rate", "0"),
        ("--all", "--parallel", "0"),
    ],
    ids=" ".join,
)
def test_flags_that_make_no_sense(tmp_path: Path, flags: tuple[str, ...]) -> None:
    here = Installation(tmp_path / "here")
    assert here.run("verify", *flags, code=64).problem
