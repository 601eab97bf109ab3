"""The policies of docs/s3-policies.md, as written, on a real S3 server that enforces them."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from etcdguard.crypto.recipients import read_identities_file
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import AccessDenied
from etcdguard.storage.s3 import S3Store
from tests.e2e.running import Done, Installation, credentials, downloads, s3_repository
from tests.support.backups import ManualClock, Node, database
from tests.support.fake_source import FakeSource
from tests.support.s3_servers import S3Server, add_user, make_bucket

DOCUMENT = Path(__file__).parents[2] / "docs" / "s3-policies.md"
ROLES = ("writer", "pruner", "reader", "keeper")


def documented() -> dict[str, list[dict[str, Any]]]:
    """The statements below each heading."""
    parts = re.split(r"^## ", DOCUMENT.read_text(), flags=re.MULTILINE)[1:]
    found = {}
    for part in parts:
        for text in re.findall(r"```json\n(.*?)```", part, flags=re.DOTALL):
            found[part.partition("\n")[0].lower()] = json.loads(text)["Statement"]
    return found


class Scene:
    """A bucket with the documented policy, and a user of each role."""

    def __init__(self, folder: Path, server: S3Server) -> None:
        self.server = server
        self.bucket = make_bucket(server)
        suffix = secrets.token_hex(4)
        self.users = {role: add_user(server, f"{role}{suffix}") for role in ROLES}
        statements = documented()
        assert sorted(statements) == sorted(ROLES)
        statements["keeper"] += [{**one, "Sid": f"Keeper{one['Sid']}"} for one in statements["reader"]]
        policy = [
            {**one, "Principal": {"AWS": [self.users[role].access_key]}}
            for role in ROLES
            for one in statements[role]
        ]
        text = json.dumps({"Version": "2012-10-17", "Statement": policy}).replace("my-bucket", self.bucket)
        server.client().put_bucket_policy(Bucket=self.bucket, Policy=text)
        self.here = Installation(folder / "here")
        self.here.settings["repositories"] = [s3_repository(server, self.bucket)]
        self.here.settings["retention"] = {"keep_last": 1, "max_fraction": 1.0}
        self.here.save()
        self.signer = SigningKey.load(self.here.folder / "signing.key.pem")
        (self.identity,) = read_identities_file(self.here.identity_file)
        self.clock = ManualClock(datetime.now(timezone.utc) - timedelta(days=1))
        self._wait_for_policy()

    def store(self, role: str) -> S3Store:
        user = self.users[role]
        return S3Store(user.options(self.bucket, "etcd"), session=user.session())

    def backup(self, revision: int) -> str:
        """With the writer's credentials, in more than one part."""
        node = Node(
            self.here.folder / "node",
            clock=self.clock,
            signer=self.signer,
            options={"recipients": [self.identity.recipient]},
        )
        source = FakeSource(database(revision, value_bytes=30_000))
        report = node.run(source, self.store("writer"))
        assert report.failed == {}
        return report.backup.id

    def run(self, role: str, *arguments: str, code: int = 0) -> Done:
        return self.here.run(*arguments, code=code, **credentials(self.users[role]))

    def stored(self) -> dict[str, bytes]:
        return downloads(self.server, self.bucket)

    def _wait_for_policy(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                list(self.store("reader").list(""))
            except AccessDenied:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            else:
                return


@pytest.fixture
def scene(tmp_path: Path, second_s3_server: S3Server) -> Scene:
    if second_s3_server.name != "versitygw":
        pytest.skip(f"{second_s3_server.name} enforces no bucket policies")
    return Scene(tmp_path, second_s3_server)


def test_each_role_can_do_its_work_and_no_more(scene: Scene) -> None:
    ids = [scene.backup(revision) for revision in (250, 251, 252)]

    # the writer
    assert [one["id"] for one in json.loads(scene.run("writer", "list", "-o", "json").out)["backups"]] == ids
    assert "WARN" in scene.run("writer", "check", "repository").out
    before = scene.stored()
    error, hint = scene.run("writer", "prune", "--confirm", "-q", code=10).problem
    assert "nothing was deleted" in error
    assert "docs/s3-policies.md" in hint
    after = scene.stored()
    assert {key: after[key] for key in before} == before
    events = [json.loads(after[key]) for key in set(after) - set(before) if key.endswith(".json")]
    told = {event["phase"]: event for event in events}
    assert sorted(told) == ["begun", "ended"]
    assert set(told["ended"]["stayed"]) == set(ids[:2])

    # the reader
    verified = scene.run("reader", "verify", "--all", "-o", "json")
    assert {one["outcome"] for one in json.loads(verified.out)["results"]} == {"ok"}
    assert "verify.not_recorded" in verified.err
    scene.run("reader", "prune")
    scene.run("reader", "prune", "--confirm", code=10)
    scene.run("reader", "hold", "add", ids[0], "--reason", "x", code=10)
    refusals: list[Callable[[], object]] = [
        lambda: scene.store("reader").put("prod/events/x", b"1"),
        lambda: scene.store("reader").delete(f"prod/backups/{ids[0]}/manifest.json"),
        lambda: scene.store("pruner").put(f"prod/backups/{ids[0]}/manifest.json", b"1"),
        lambda: scene.store("keeper").delete(f"prod/backups/{ids[0]}/manifest.json"),
        lambda: scene.store("keeper").put(f"prod/backups/{ids[0]}/manifest.json", b"1"),
    ]
    for refused in refusals:
        with pytest.raises(AccessDenied):
            refused()
    assert {key: value for key, value in scene.stored().items() if key in after} == after

    # the keeper and the pruner
    scene.run("keeper", "hold", "add", ids[0], "--reason", "evidence")
    hold = f"prod/holds/{ids[0]}.json"
    with pytest.raises(AccessDenied):
        scene.store("pruner").delete(hold)
    event = next(key for key in scene.stored() if "/events/" in key).removeprefix("etcd/")
    with pytest.raises(AccessDenied):
        scene.store("pruner").delete(event)
    done = json.loads(scene.run("pruner", "prune", "--confirm", "-o", "json").out)
    assert [one["id"] for one in done["remove"]] == [ids[1]]
    assert [one["id"] for one in json.loads(scene.run("reader", "list", "-o", "json").out)["backups"]] == [
        ids[0],
        ids[2],
    ]
    assert not any(ids[1] in key for key in scene.stored() if "/backups/" in key)
    scene.run("keeper", "hold", "remove", ids[0], "--reason", "over")
    scene.run("pruner", "prune", "--confirm")
    assert {key.split("/")[3] for key in scene.stored() if "/backups/" in key} == {ids[2]}
