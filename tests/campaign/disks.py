"""``python -m tests.campaign.disks``: EIO and ENOSPC at the writes and syncs of commands and their children.

How many there are is not written down: each command runs once without errors. EIO is met once at each, ENOSPC
from one on until the end of the run. Then what was listed is listed and sound, nothing half made is
left, what the command replaces is as it was, and the next run with a sound disk succeeds.
"""

from __future__ import annotations

import argparse
import errno
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from etcdguard import __version__
from etcdguard.backup.spool import Spool
from etcdguard.catalog import Catalog
from etcdguard.crypto.signing import PublicKey, TrustedSigners
from etcdguard.etcd.local import LocalCluster
from etcdguard.storage.file import FileStore
from tests.campaign.table import Row, print_table
from tests.e2e.running import Done, Installation, tree
from tests.support.disk_errors import DiskErrors, Trouble
from tests.support.etcd_versions import default_programs
from tests.support.load import write_history

__all__ = ["COMMANDS", "Laboratory", "concerned"]

_LIMIT = 150.0
_ERRORS = {"EIO, once": (errno.EIO, False), "ENOSPC, from there on": (errno.ENOSPC, True)}
_EXIT_CODES = {1, 3, 10, 13}


@dataclass(frozen=True)
class Command:
    """``check`` looks at what a run left, and is told whether it succeeded."""

    name: str
    arguments: Callable[[Place], list[str]]
    check: Callable[[Place, bool], None]
    prepare: Callable[[Place], None] = lambda place: None
    seconds: int = 0
    """It is a service, which is asked to end after so many seconds."""


class Place:
    """A copy of the installation, whose every file is below ``folder``."""

    def __init__(self, here: Installation, member: str) -> None:
        self.here = here
        self.folder = here.folder
        self.member = member
        self.out = here.folder / "out"
        self.out.mkdir()
        self.data = here.folder / "data"
        self.state = Path(here.settings["restore"]["state_dir"])
        self.before: list[str] = []
        self.old: object = None

    def listed(self) -> list[str]:
        """Every one sound."""
        signers = TrustedSigners([PublicKey.load(self.here.public_key)])
        listing = Catalog(FileStore("local", self.here.repository), "prod", signers).list()
        assert listing.problems == (), listing.problems
        assert all(backup.signature == "valid" for backup in listing.backups)
        return [backup.id for backup in listing.backups]

    def data_directory(self) -> tuple[int, object]:
        return self.data.stat().st_ino, tree(self.data)


def _nothing_new(place: Place, done: bool) -> None:
    del done
    assert place.listed() == place.before


def _after_backup(place: Place, done: bool) -> None:
    listed = place.listed()
    assert listed[: len(place.before)] == place.before
    if done:
        assert len(listed) > len(place.before)
        assert Spool(place.here.spool).entries() == []


def _after_prune(place: Place, done: bool) -> None:
    listed = place.listed()
    assert listed[-1] == place.before[-1]
    assert set(listed) <= set(place.before)
    if done:
        assert listed == place.before[-1:]


def _after_daemon(place: Place, done: bool) -> None:
    """It lives on, whatever the disk does."""
    assert done
    assert place.listed()[: len(place.before)] == place.before


def _schedule(place: Place) -> None:
    place.here.settings["backup"]["schedule"] = "5s"
    place.here.settings["daemon"]["ship"] = "5s"
    place.here.save()


def _after_file(name: str) -> Callable[[Place, bool], None]:
    def check(place: Place, done: bool) -> None:
        _nothing_new(place, done)
        assert [path.name for path in place.out.iterdir()] == ([name] if done else [])

    return check


def _after_init(place: Place, done: bool) -> None:
    names = {path.name for path in place.out.iterdir()}
    wanted = {"config.yaml", "identity.txt", "signing.key.pem", "signing.pub.pem"}
    if done:
        assert wanted <= names
    else:
        assert not names & wanted, f"half of it is left: {names}"


def _after_restore(place: Place, done: bool) -> None:
    """What is not undone yet may stand beside the old directory, which is never lost."""
    _nothing_new(place, done)
    beside = [path for path in place.folder.glob("data*") if path != place.data]
    if done:
        assert place.data.stat().st_ino != place.old[0]  # type: ignore[index]
        assert [(path.stat().st_ino, tree(path)) for path in beside] == [place.old], beside
    else:
        standing = [path for path in (place.data, *beside) if path.is_dir()]
        assert place.old in [(path.stat().st_ino, tree(path)) for path in standing], "the old one is lost"


def _go_on(place: Place, error: str, hint: str) -> bool:
    """Do what a failed restore says; whether a new one is to be made after that."""
    if error.startswith("the restore is done"):
        return False
    (plan,) = {*re.findall(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}", hint)} or {None}
    if plan is None:
        assert place.data_directory() == place.old
        assert [path for path in place.folder.glob("data*") if path != place.data] == []
        return True
    back = place.here.run("restore", "rollback", plan, "--yes", "-q", code=None)
    if back.code == 0:
        assert place.data_directory() == place.old, "after the rollback it is not as it was"
        return True
    assert back.code == 15, back.err
    place.here.run("restore", "run", "--plan", str(place.state / plan / "plan.json"), "--all", "--yes", "-q")
    return False


def _make_data(place: Place) -> None:
    """An old data directory; made up, because only its being kept counts."""
    for name in ("member/snap", "member/wal"):
        (place.data / name).mkdir(parents=True)
    (place.data / "member/snap/db").write_bytes(b"old" * 1000)
    place.data.chmod(0o700)
    place.old = place.data_directory()


COMMANDS = (
    Command("backup", lambda place: ["backup"], _after_backup),
    Command("daemon", lambda place: ["daemon"], _after_daemon, _schedule, seconds=20),
    Command("verify", lambda place: ["verify", "latest", "--level", "data"], _nothing_new),
    Command("hold", lambda place: ["hold", "add", "latest", "--reason", "disks"], _nothing_new),
    Command("prune", lambda place: ["prune", "--confirm"], _after_prune),
    Command(
        "download", lambda place: ["download", "latest", "-o", str(place.out / "db")], _after_file("db")
    ),
    Command(
        "audit",
        lambda place: ["audit", "-o", "html", "--file", str(place.out / "report.html")],
        _after_file("report.html"),
    ),
    Command(
        "init",
        lambda place: ["init", "--cluster-name", "other", "--config", str(place.out / "config.yaml")],
        _after_init,
    ),
    Command(
        "restore",
        lambda place: [
            "restore", "latest", "--all", "--yes", "--no-backup", f"--data-dir={place.member}={place.data}",
        ],
        _after_restore,
        _make_data,
    ),
)  # fmt: skip


class Laboratory:
    """One prepared installation, of which each run gets a copy; the cluster is stopped for restores."""

    def __init__(self, folder: Path, cluster: LocalCluster, search_path: str) -> None:
        self._folder = folder
        self._cluster = cluster
        self._count = 0
        self._first = Installation.of(folder / "first", cluster, variables={"PATH": search_path})
        self._first.settings["encryption"]["identity_file"] = str(self._first.identity_file)
        self._first.settings["retention"] = {"keep_last": 1, "max_fraction": 1.0}
        self._first.save()
        write_history(cluster, keys=20)
        for _ in range(2):
            self._first.backup()
        self._first.run("verify", "latest", "--level", "data", "-q")

    def calls(self, command: Command) -> list[str]:
        """What it does to the disk when nothing is wrong."""
        errors = self._run(command, self._place(command), None)[1]
        return errors.calls

    def perform(self, command: Command, trouble: Trouble) -> str:
        """What it said; raises AssertionError where anything was lost, is half made, or is unclear."""
        place = self._place(command)
        done, errors = self._run(command, place, trouble)
        assert errors.met, "no call met the error"
        if done.code:
            assert done.code in _EXIT_CODES, f"exit code {done.code}: {done.err}"
            error, _ = done.problem
            assert "internal" not in error, error
            said = os.strerror(trouble.error).lower()
            # In one place etcdutl goes on with what it could not sync, and tells that but not why.
            assert said in error.lower() or "failed to fsync" in error, f"the cause is not told: {error}"
        command.check(place, done.code == 0)
        place.listed()
        if done.code and (command.name != "restore" or _go_on(place, *done.problem)):
            self._run(command, place, None)
        if done.code:
            command.check(place, True)
        if command.seconds:
            place.here.run("backup", "-q")
            _after_backup(place, done=True)
        shutil.rmtree(place.folder)
        return f"exit code {done.code}" if done.code else "done all the same"

    def _place(self, command: Command) -> Place:
        self._count += 1
        place = Place(self._first.copy(self._folder / f"place-{self._count}"), self._cluster.names[0])
        command.prepare(place)
        place.before = place.listed()
        (self._cluster.kill if command.name == "restore" else self._cluster.start_all)()
        if command.name != "restore":
            self._cluster.wait_healthy()
        return place

    def _run(self, command: Command, place: Place, trouble: Trouble | None) -> tuple[Done, DiskErrors]:
        errors = DiskErrors(place.folder, trouble)
        arguments = command.arguments(place)
        argv = place.here.argv(*arguments, "-q")
        if command.seconds:
            argv = ["/usr/bin/timeout", "--preserve-status", "--signal=TERM", str(command.seconds), *argv]
        if "--config" in arguments:  # of its own
            argv = argv[:-2]
        ended = errors.run(argv, cwd=place.folder, env=place.here.environment(), timeout=_LIMIT)
        done = Done(ended.returncode, ended.stdout, ended.stderr)
        assert trouble is not None or done.code == 0, done.err
        return done, errors


def rows(here: Laboratory, commands: Sequence[Command], most: int, rng: random.Random) -> Iterator[Row]:
    """A row for each command, error and kind of call; of more than ``most`` calls, so many by chance."""
    for command in commands:
        calls = here.calls(command)
        for name, (number, stays) in _ERRORS.items():
            probe = Trouble(0, number, stays)
            counted = concerned(calls, number)
            if command.seconds:  # a slow run does not come as far as another
                counted = counted[: len(counted) // 2]
            chosen = sorted(rng.sample(range(len(counted)), min(most, len(counted))))
            cells = (command.name, f"{name}, at {len(chosen)} of {len(counted)} calls")
            yield Row.of(cells, partial(_at_each, here, command, probe, chosen, counted))


def concerned(calls: Sequence[str], error: int) -> list[str]:
    """Those that such an error can meet: want of space is met by writes alone."""
    return [call for call in calls if error != errno.ENOSPC or not call.startswith(("fsync", "fdatasync"))]


def _at_each(
    here: Laboratory, command: Command, probe: Trouble, chosen: Sequence[int], calls: Sequence[str]
) -> str:
    said: dict[str, int] = {}
    for nth in chosen:
        try:
            outcome = here.perform(command, Trouble(nth, probe.error, probe.stays))
        except AssertionError as error:
            raise AssertionError(f"at call {nth}, {calls[nth]}: {error}") from error
        said[outcome] = said.get(outcome, 0) + 1
    return ", ".join(f"{outcome} ({times})" for outcome, times in sorted(said.items()))


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--most", type=int, default=40, help="calls of a command that meet each error")
    parser.add_argument("--only", default="", metavar="REGEX", help="commands whose name matches")
    chosen = parser.parse_args(arguments)
    commands = [command for command in COMMANDS if re.search(chosen.only, command.name)]
    programs = default_programs()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="etcdguard-campaign-")))
        cluster = stack.enter_context(LocalCluster(programs.etcd, folder / "etcd", names=("etcd-1",)))
        here = Laboratory(folder, cluster, programs.search_path)
        print(f"etcdguard {__version__}, etcd {programs.version}, seed {chosen.seed}\n")
        return print_table(
            ("command", "error"), rows(here, commands, chosen.most, random.Random(chosen.seed))
        )


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
