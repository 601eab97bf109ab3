"""``python -m tests.campaign.kills``: SIGKILL a real backup at seeded random moments (200 unless told).

Every fifth is killed when its snapshot is whole and waits for its upload.
What is listed can be restored, after every one of them; what was whole is shipped by a later run.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from etcdguard import __version__
from etcdguard.backup.spool import Spool
from etcdguard.catalog import Catalog
from etcdguard.crypto.recipients import read_identities_file
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.lock import lock_key
from etcdguard.progress import NoProgress
from etcdguard.storage.s3 import S3Store
from etcdguard.verify import Verifier
from tests.campaign.table import Row, print_table
from tests.e2e.running import Installation, credentials, s3_repository
from tests.support.backups import chain_problems
from tests.support.etcd_versions import default_programs
from tests.support.load import connect, fill
from tests.support.s3_servers import S3Server, make_bucket, seaweedfs

__all__ = ["DATABASE_BYTES", "killed_backups"]

DATABASE_BYTES = 90_000_000
"""About 15 MB when compressed: three parts of a multipart upload."""
_INCOMPLETE = "incomplete"
_LEFT_UPLOADS = "any, and left an unfinished upload"


def _killed_after(here: Installation, seconds: float) -> tuple[float, float] | None:
    """Run a backup and kill it. None, or when it ended by itself before: how long it took.

    That is to its first file in the spool and to its end, in seconds.
    """
    before = _entries(here)
    first = None
    began = time.monotonic()
    with here.start("backup") as process:
        while process.poll() is None:
            if time.monotonic() - began > seconds:
                process.kill()
                process.communicate()
                return None
            if first is None and _entries(here) - before:
                first = time.monotonic() - began
            time.sleep(0.01)
        took = time.monotonic() - began
        process.communicate()
    assert process.returncode == 0
    assert first is not None
    return first, took


def _entries(here: Installation) -> set[Path]:
    """The spool's."""
    return {path for path in here.spool.glob("*") if path.is_dir()}


def _killed_when_whole(here: Installation) -> bool:
    """Run a backup and kill it once its snapshot is whole and waits for the upload; False when it ended."""
    before = set(here.spool.iterdir())
    with here.start("backup") as process:
        while process.poll() is None:
            with suppress(FileNotFoundError):  # delivered meanwhile
                fresh = [entry for entry in Spool(here.spool).entries() if entry.path not in before]
                if any(entry.backup() is not None for entry in fresh):
                    process.kill()
                    process.communicate()
                    return True
            time.sleep(0.005)
        process.communicate()
    assert process.returncode == 0
    return False


def _end_lease(cluster: LocalCluster) -> None:
    """Now instead of in 15 s, which the next backup would wait for."""
    with connect(cluster) as client:
        client.delete(lock_key("prod", "maintenance"))


def _state(spool: Path) -> str:
    """How far the newest backup came."""
    entries = Spool(spool).entries()
    if not entries:
        return "no entry"
    newest = entries[-1]
    if newest.backup() is None:
        return _INCOMPLETE if newest.upload_begun() is None else f"{_INCOMPLETE}, its upload begun"
    return "complete" if newest.frozen() is None else "frozen"


def killed_backups(
    folder: Path, cluster: LocalCluster, server: S3Server, kills: int, seed: int
) -> Counter[str]:
    """Kill so many backups of a cluster that holds ``DATABASE_BYTES``; says how far they had come.

    Raises AssertionError where anything was lost or is listed wrongly, or the kills missed what matters.
    """
    bucket = make_bucket(server)
    here = Installation.of(folder / "here", cluster, variables=credentials(server))
    here.settings["repositories"] = [s3_repository(server, bucket, name="seaweedfs")]
    here.save()
    store = S3Store(server.options(bucket, "etcd"), session=server.session())
    catalog = Catalog(store, "prod", TrustedSigners([PublicKey.load(here.public_key)]))
    verifier = Verifier(catalog, lambda: read_identities_file(here.identity_file), NoProgress())

    times = _killed_after(here, math.inf)
    assert times is not None
    first, end = times
    moments = random.Random(seed)
    states: Counter[str] = Counter()
    verified: set[str] = set()
    uploads_left = 0
    for number in range(kills):
        if number % 5 == 4:  # uploads of so little are short: chance alone would hardly meet one
            killed = _killed_when_whole(here)
        else:
            times = _killed_after(here, moments.uniform(0.9 * first, end))
            killed = times is None
            first, end = times or (first, end * 1.02)  # it depends on what else the machine does
        states[_state(here.spool) if killed else "had ended"] += 1
        _end_lease(cluster)
        uploads_left += bool(store.stale_uploads(""))
        listing = catalog.list()
        assert listing.problems == (), f"kill {number}"
        for backup in listing.backups:
            if backup.id not in verified:
                (result,) = verifier.one(backup.id, "data")
                assert result.problems == (), f"kill {number}"
                verified.add(backup.id)
        assert verified == {backup.id for backup in listing.backups}, f"kill {number}: a backup is lost"

    waiting = {whole.id for entry in Spool(here.spool).entries() if (whole := entry.backup())}
    last = here.backup()
    listed = set(here.ids())
    assert listed >= verified | waiting | {last}
    assert [path for path in here.spool.iterdir() if path.is_dir()] == []
    assert store.stale_uploads("") == []
    assert chain_problems(catalog.list()) == []
    results = here.json("verify", "--all", "--level", "data")["results"]
    assert {result["id"] for result in results} == listed
    assert all(result["outcome"] == "ok" for result in results)

    assert sum(states.values()) == kills
    assert states[_INCOMPLETE], f"no kill met the snapshot: {dict(states)}, {first:.1f} to {end:.1f} s"
    assert states["complete"] + states["frozen"], "no kill met the upload"
    return states + Counter({_LEFT_UPLOADS: uploads_left})


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="SIGKILL backups at random moments.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=6)
    options = parser.parse_args(arguments)
    programs = default_programs()
    with tempfile.TemporaryDirectory(prefix="etcdguard-campaign-") as name:
        folder = Path(name)
        (folder / "server").mkdir()
        with (
            seaweedfs(folder / "server") as server,
            LocalCluster(programs.etcd, folder / "cluster") as cluster,
        ):
            fill(cluster, DATABASE_BYTES)
            print(f"etcdguard {__version__}, etcd {programs.version}, {server.name}, seed {options.seed}\n")
            states: Counter[str] = Counter()

            def perform() -> str:
                states.update(killed_backups(folder, cluster, server, options.kills, options.seed))
                return "done"

            bad = Row.of(("-",), perform)
    said = "what is listed is sound, what was whole is shipped"
    rows = [Row((state,), f"{times} times, {said}") for state, times in sorted(states.items())]
    return print_table(("its newest spool entry",), rows if bad.outcome is not None else [bad])


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
