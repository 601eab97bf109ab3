"""Commands by hand whose clock jumps, on a repository that is a folder and on one in S3."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

from etcdguard.backup.spool import Spool
from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.local import LocalCluster
from etcdguard.storage.base import ObjectStore
from etcdguard.storage.file import FileStore
from etcdguard.storage.s3 import S3Store
from tests.campaign.table import Row
from tests.e2e.running import Done, Installation, credentials, s3_repository
from tests.support.backups import chain_problems
from tests.support.fake_time import SettableClock
from tests.support.load import connect, fill
from tests.support.s3_servers import S3Server, make_bucket

__all__ = ["JUMPS", "SITUATIONS", "HandWorld", "hand_rows"]

JUMPS = {
    "ten minutes ahead": timedelta(minutes=10),
    "an hour ahead": timedelta(hours=1),
    "an hour behind": timedelta(hours=-1),
    "a year ahead": timedelta(days=365),
    "a year behind": timedelta(days=-365),
}
_DATABASE_BYTES = 12_000_000
_RATE = "2MiB"
"""A backup shall take seconds, so that the clock can be set in its midst."""
_LIMIT = 150.0
_SKEW = 10
"""The exit code of a request that a store refuses because of the clock."""


class HandWorld:
    """One cluster, and for each situation an installation and a repository of its own."""

    def __init__(self, folder: Path, cluster: LocalCluster, server: S3Server) -> None:
        self._folder = folder
        self._cluster = cluster
        self._server = server
        self._count = 0
        fill(cluster, _DATABASE_BYTES)

    def perform(self, situation: str, kind: str, jump: timedelta) -> str:
        """What came of it; raises AssertionError where anything was lost or is listed wrongly."""
        self._count += 1
        return SITUATIONS[situation](self._site(kind), jump)

    def _site(self, kind: str) -> _Site:
        folder = self._folder / f"site-{self._count}"
        here = Installation.of(folder, self._cluster, variables=credentials(self._server))
        here.settings["encryption"]["identity_file"] = str(here.identity_file)
        here.settings["retention"] = {"keep_last": 1, "max_fraction": 1.0}
        store: ObjectStore = FileStore("local", here.repository)
        if kind == "S3":
            bucket = make_bucket(self._server)
            here.settings["repositories"] = [s3_repository(self._server, bucket)]
            store = S3Store(self._server.options(bucket, "etcd"), session=self._server.session())
        here.save()
        return _Site(self._cluster, here, store, SettableClock(folder))


class _Site:
    def __init__(
        self, cluster: LocalCluster, here: Installation, store: ObjectStore, clock: SettableClock
    ) -> None:
        self._cluster = cluster
        self.here = here
        self.clock = clock
        self.catalog = Catalog(store, "prod", TrustedSigners([PublicKey.load(here.public_key)]))
        self._written = 0

    def run(self, *arguments: str) -> Done:
        """With the clock as it is set."""
        return self.here.run(*arguments, "-q", code=None, **self.clock.variables)

    def write(self) -> None:
        """So that the next backup has another revision."""
        self._written += 1
        with connect(self._cluster) as client:
            client.put("/clock/written", str(self._written))

    def ids(self) -> list[str]:
        """What is listed, oldest first, all of it sound."""
        listing = self.catalog.list()
        assert listing.problems == (), listing.problems
        assert all(backup.signature == "valid" for backup in listing.backups)
        revisions = [backup.manifest.snapshot.revision for backup in listing.backups]
        assert revisions == sorted(revisions), "a newer state stands before an older one"
        return [backup.id for backup in listing.backups]

    def settled(self, taken: int) -> None:
        """By the true time: the newest is the newest, all that was taken is there, sound and in one chain."""
        self.clock.set(timedelta())
        self.write()
        last = json.loads(self._good("backup", "-o", "json").out)["backup"]["id"]
        ids = self.ids()
        assert ids[-1] == last == self.catalog.resolve("latest").id, "an older one hides the newest"
        assert len(ids) == taken + 1, f"{len(ids)} backups of {taken + 1}"
        assert chain_problems(self.catalog.list()) == []
        assert Spool(self.here.spool).entries() == []
        results = json.loads(self._good("verify", "--all", "--level", "data", "-o", "json").out)["results"]
        assert [result["outcome"] for result in results] == ["ok"] * len(ids)

    def _good(self, *arguments: str) -> Done:
        done = self.run(*arguments)
        assert done.code == 0, done.err
        return done

    def backup(self) -> int:
        """The exit code; one that fails says why, and keeps what it took."""
        self.write()
        done = self.run("backup")
        return self._judge(done)

    def _judge(self, done: Done) -> int:
        if done.code:
            assert done.code == _SKEW, done.err
            _, hint = done.problem
            assert "clock" in hint, hint
            assert Spool(self.here.spool).entries(), "what it took is gone"
        return done.code

    def backup_with(self, jump: timedelta) -> int:
        """The same for one in whose midst the clock is set."""
        self.write()
        self.here.settings["backup"]["max_rate"] = _RATE
        self.here.save()
        with self.here.start("backup", "-q", **self.clock.variables) as process:
            while not any(entry.object_path.exists() for entry in Spool(self.here.spool).entries()):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            self.clock.set(jump)
            try:
                out, err = process.communicate(timeout=_LIMIT)
            finally:
                process.kill()
        del self.here.settings["backup"]["max_rate"]
        self.here.save()
        return self._judge(Done(process.returncode, out, err))


def _between(site: _Site, jump: timedelta) -> str:
    """One by the true time, one by the wrong one, one by the true time."""
    assert site.backup() == 0
    site.clock.set(jump)
    code = site.backup()
    if code == 0:
        assert site.ids()[-1] == site.catalog.resolve("latest").id
        assert len(site.ids()) == 2
    site.settled(2)
    return f"exit code {code}, then shipped" if code else "done"


def _during(site: _Site, jump: timedelta) -> str:
    assert site.backup() == 0
    code = site.backup_with(jump)
    site.settled(2)
    return f"exit code {code}, then shipped" if code else "done"


def _prune(site: _Site, jump: timedelta) -> str:
    """Four backups of which three may go by the rules; a second kept as verified."""
    for _ in range(4):
        assert site.backup() == 0
    before = site.ids()
    site.here.run("verify", before[1], "--level", "data", "-q")
    site.clock.set(jump)
    done = site.run("prune", "--confirm")
    after = site.ids()
    if done.code:
        assert done.code in (_SKEW, 15), done.err
        assert "clock" in " ".join(done.problem), done.err
        assert after == before
    else:
        assert {before[1], before[-1]} <= set(after), "what the rules keep is gone"
    site.clock.set(timedelta())
    site.here.run("prune", "--confirm", "-q")
    assert site.ids() == [before[1], before[-1]]
    return f"exit code {done.code}, nothing removed" if done.code else "done, by the rules"


def _restore(site: _Site, jump: timedelta) -> str:
    """Downloaded by the wrong clock, bit for bit."""
    assert site.backup() == 0
    site.here.run("download", "latest", "-o", site.here.folder / "true.db", "-q")
    site.clock.set(jump)
    done = site.run("download", "latest", "-o", str(site.here.folder / "jumped.db"))
    if done.code == 0:
        both = [(site.here.folder / name).read_bytes() for name in ("true.db", "jumped.db")]
        assert both[0] == both[1]
    else:
        assert done.code == _SKEW, done.err
        assert "clock" in done.problem[1], done.err
        assert not (site.here.folder / "jumped.db").exists()
    site.settled(1)
    return f"exit code {done.code}" if done.code else "done"


SITUATIONS: dict[str, Callable[[_Site, timedelta], str]] = {
    "between two backups": _between,
    "during a backup": _during,
    "before a prune": _prune,
    "before a download": _restore,
}
"""What is done when the clock jumps."""


def hand_rows(world: HandWorld, situations: Sequence[str], jumps: Sequence[str]) -> Iterator[Row]:
    """Each situation on both kinds of repository, for each jump."""
    for situation in situations:
        for kind in ("folder", "S3"):
            for jump in jumps:
                cells = ("by hand", situation, kind, jump)
                yield Row.of(cells, partial(world.perform, situation, kind, JUMPS[jump]))
