"""What a run of a defragmentation is given: the backups behind it, its history, its record, the disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from etcdguard import app_defrag
from etcdguard.app import App
from etcdguard.config.load import parse
from etcdguard.crypto.signing import SigningKey
from etcdguard.errors import Corruption, RepositoryError
from etcdguard.etcd.admin import AdminClient
from etcdguard.maintenance.defrag.environment import Environment
from etcdguard.maintenance.defrag.facts import History
from etcdguard.maintenance.defrag.plan import DefragReport, FreshBackup, MemberResult, make_plan
from etcdguard.model import Member
from etcdguard.progress import NoProgress
from etcdguard.storage.file import FileStore
from tests.support.backups import IDENTITY, SIGNER, START, ManualClock, Node, database
from tests.support.defrag_facts import NOW, facts, status, survey
from tests.support.fake_source import FakeSource
from tests.unit.maintenance.made_up import POLICY, MadeUp

CLUSTER_ID = "c1"
"""Of the fake source's cluster, and of ours."""


class Site:
    """A configuration with two repositories and a spool, at ``START`` and a little later."""

    def __init__(self, folder: Path, *, identity: bool = True, signing: bool = True, extra: str = "") -> None:
        self.folder = folder
        self.stores = [FileStore.create(name, folder / name) for name in ("first", "second")]
        (folder / "identity.txt").write_text(IDENTITY.secret_text() + "\n")
        (folder / "signing.pem").write_bytes(SIGNER.private_pem())
        text = f"""
cluster: {{name: prod}}
repositories:
  - {{name: first, file: {{path: {folder / "first"}}}}}
  - {{name: second, file: {{path: {folder / "second"}}}}}
encryption: {{recipients: [{IDENTITY.recipient}]{", identity_file: identity.txt" if identity else ""}}}
{"signing: {key_file: signing.pem}" if signing else ""}
backup: {{spool_dir: {folder / "spool"}}}
{extra}
"""
        self.app = App(parse(text, folder / "config.yaml"))
        self.clock = ManualClock()
        self.app.clock = cast(Any, self.clock)
        self.source = FakeSource(database(20))

    def backup(self, *numbers: int, revision: int = 20) -> str:
        """Taken by another node, into those repositories; its id."""
        node = Node(self.folder / "elsewhere", clock=self.clock)
        return node.backup(revision, *(self.stores[number] for number in numbers)).backup.id

    def verified(self, number: int, level: str, *ids: str, outcome: str = "ok") -> None:
        """Record that in that repository."""
        results = [{"id": one, "level": level, "outcome": outcome} for one in ids]
        catalog = self.app.catalog_of(self.stores[number])
        catalog.trail.record("verify", {"results": results}, at=self.clock.now(), actor="cp2", signer=SIGNER)

    def lose(self, number: int) -> None:
        """That repository answers no more."""
        place = self.folder / ("first", "second")[number]
        place.rename(place.with_suffix(".away"))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[Site], Environment]:
    """What a job on that site is given."""
    monkeypatch.setattr(app_defrag, "DefragJob", lambda environment, policy: (environment, policy))

    def give(site: Site) -> Environment:
        policy = app_defrag.policy_of(site.app)
        environment, passed_on = cast(
            Any,
            app_defrag.defrag_job(
                site.app,
                cast(AdminClient, site.source),
                MadeUp(),
                policy,
                NoProgress(),
                shield=lambda _member, _timeout: nullcontext(),
                tell=lambda _line: None,
            ),
        )
        assert passed_on is policy
        return cast(Environment, environment)

    return give


Given = Callable[[Site], Environment]


# -- the policy ------------------------------------------------------------------------------------------


def test_the_policy_is_the_configured_one(tmp_path: Path) -> None:
    assert app_defrag.policy_of(Site(tmp_path).app) == POLICY


def test_a_leader_settles_no_longer_than_anybody(tmp_path: Path) -> None:
    settings = "defrag: {settle: 4s, max_duration: 2m, disk_reserve: 1GiB, small_clusters: true}"
    policy = app_defrag.policy_of(Site(tmp_path, extra=settings).app)
    assert (policy.settle, policy.leader_settle, policy.max_duration) == (4.0, 4.0, 120.0)
    assert (policy.disk_reserve, policy.small_clusters) == (2**30, True)


# -- backups ---------------------------------------------------------------------------------------------


def test_the_newest_verified_backup_stands_behind_it(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    old, new = site.backup(0, revision=20), site.backup(1, revision=21)
    unverified = site.backup(0, 1, revision=22)
    assert given(site).fresh_backup(CLUSTER_ID) is None
    site.verified(0, "data", old)
    assert _id(given(site).fresh_backup(CLUSTER_ID)) == old
    site.verified(1, "drill", new)
    found = given(site).fresh_backup(CLUSTER_ID)
    assert found is not None
    assert (found.id, found.level) == (new, "drill")
    assert START < found.created_at < START + timedelta(minutes=1)
    assert unverified != new
    assert given(site).fresh_backup("another cluster") is None


def test_a_machine_with_an_identity_wants_the_data_verified(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    taken = site.backup(0)
    site.verified(0, "manifest", taken)
    assert given(site).fresh_backup(CLUSTER_ID) is None


def test_a_machine_without_an_identity_is_content_with_manifests(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path, identity=False)
    site.verified(0, "manifest", taken := site.backup(0))
    assert _id(given(site).fresh_backup(CLUSTER_ID)) == taken
    site.verified(0, "data", taken, outcome="failed")
    assert given(site).fresh_backup(CLUSTER_ID) is None, "it has failed since"


def test_a_backup_grows_old_and_may_be_of_a_clock_that_is_ahead(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path, extra="defrag: {backup_age: 2h}")
    site.verified(0, "data", taken := site.backup(0))
    minutes = {-6: None, -4: taken, 119: taken, 121: None}
    for offset, expected in minutes.items():
        site.clock.moment = START + timedelta(minutes=offset)
        assert _id(given(site).fresh_backup(CLUSTER_ID)) == expected, offset


def test_a_signature_of_nobody_we_trust_is_no_backup(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    node = Node(tmp_path / "elsewhere", clock=site.clock, signer=SigningKey.generate())
    site.verified(0, "data", node.backup(20, site.stores[0]).backup.id)
    assert given(site).fresh_backup(CLUSTER_ID) is None


def test_a_repository_that_is_away_is_passed_over(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    taken = site.backup(1)
    site.verified(1, "data", taken)
    site.lose(0)
    with capture_logs() as logs:
        assert _id(given(site).fresh_backup(CLUSTER_ID)) == taken
    assert [(one["event"], one["repository"]) for one in logs] == [("repository.failed", "first")]


def test_one_is_taken_and_verified_where_it_was_stored(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    site.lose(0)
    made = given(site).take_backup()
    assert made.level == "data"
    (stored,) = site.app.catalog_of(site.stores[1]).list().backups
    assert (stored.id, stored.manifest.created_at) == (made.id, made.created_at)
    assert stored.verified is not None
    assert stored.verified.level == "data"
    assert given(site).fresh_backup(CLUSTER_ID) == made


def test_without_an_identity_its_manifest_is_verified(tmp_path: Path, given: Given) -> None:
    assert given(Site(tmp_path, identity=False)).take_backup().level == "manifest"


def test_one_that_is_not_sound_ends_it(tmp_path: Path, given: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path)
    first_catalog = site.app.first_catalog

    def damaged(name: str | None, use: Callable[..., Any]) -> Any:
        """A bit rots between the upload and the verification."""
        (data,) = (tmp_path / "first").rglob("*.age")
        raw = bytearray(data.read_bytes())
        raw[len(raw) // 2] ^= 1
        data.write_bytes(raw)
        return first_catalog(name, use)

    monkeypatch.setattr(site.app, "first_catalog", damaged)
    with pytest.raises(Corruption) as caught:
        given(site).take_backup()
    (taken,) = site.app.catalog_of(site.stores[0]).list().backups
    assert caught.value.message.startswith(f"the backup {taken.id} is not sound: ")
    assert "nothing was defragmented" in caught.value.hint
    assert (taken.verified, taken.standing.failed and taken.standing.failed.level) == (None, "data")


def _id(found: FreshBackup | None) -> str | None:
    return None if found is None else found.id


# -- the record ------------------------------------------------------------------------------------------


def report(**changes: Any) -> DefragReport:
    plan = make_plan(survey(), POLICY, History({}), NOW)
    results = (MemberResult(facts(2), "done", None, 400, 100, 1.5),)
    return DefragReport(**{"outcome": "done", "plan": plan, "results": results, **changes})


def test_a_run_is_recorded_everywhere_and_counted_once(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    given(site).record(report(outcome="failed"))
    assert [len(catalog.trail.events("defrag")) for catalog in site.app.catalogs()] == [1, 1]
    found = given(site).history(CLUSTER_ID)
    assert (found.failures, list(found.last)) == (1, ["a2"])
    assert given(site).history("another cluster") == History({}, 0)


def test_a_repository_that_is_away_loses_nothing_of_the_history(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    site.lose(0)
    with capture_logs() as logs:
        given(site).record(report())
        assert list(given(site).history(CLUSTER_ID).last) == ["a2"]
    assert [(one["event"], one["repository"]) for one in logs] == [
        ("defrag.not_recorded", "first"),
        ("repository.failed", "first"),
    ]


def test_a_history_that_nobody_can_read_is_not_taken_for_none(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path)
    site.lose(0)
    site.lose(1)
    with pytest.raises(RepositoryError, match="first"):
        given(site).history(CLUSTER_ID)


def test_without_a_key_nothing_is_recorded(tmp_path: Path, given: Given) -> None:
    site = Site(tmp_path, signing=False)
    with capture_logs() as logs:
        given(site).record(report())
        assert given(site).history(CLUSTER_ID) == History({}, 0)
    assert [one["event"] for one in logs] == ["defrag.no_history"]
    assert not any((tmp_path / "first").rglob("*defrag*"))


# -- the disk --------------------------------------------------------------------------------------------


HERE = "http://127.0.0.1:1"  # where nobody serves metrics
ELSEWHERE = "http://203.0.113.9:1"
PEER = "http://203.0.113.9:2380"


def disk_free(site: Site, given: Given, name: str = "cp1", url: str = HERE, peer: str = PEER) -> int | None:
    member = Member(id="a1", name=name, peer_urls=(peer,), client_urls=(url,), is_learner=False)
    return given(site).observe(member, status(1, endpoint=HERE)).disk_free


def with_member(folder: Path, data_dir: Path) -> Site:
    member = f"{{name: cp1, peer_urls: [{PEER}], data_dir: {data_dir}}}"
    return Site(folder, extra=f"members: [{member}]")


def test_the_disk_of_a_member_that_runs_here(tmp_path: Path, given: Given) -> None:
    site = with_member(tmp_path, tmp_path / "etcd")
    assert disk_free(site, given) is None, "its database is elsewhere"
    snap = tmp_path / "etcd" / "member" / "snap"
    snap.mkdir(parents=True)
    (snap / "db").touch()
    free = disk_free(site, given)
    assert free is not None
    assert 0 < free <= shutil.disk_usage(snap).total
    assert disk_free(site, given, name="never started") is not None, "known by its peer URL"
    assert disk_free(site, given, name="cp2", peer="http://203.0.113.10:2380") is None
    assert disk_free(site, given, url=ELSEWHERE) is None, "another machine has that path too"


def test_a_database_that_cannot_be_looked_at_has_no_known_disk(tmp_path: Path, given: Given) -> None:
    assert disk_free(with_member(tmp_path, tmp_path / ("x" * 300)), given) is None
