"""Golden repositories: what a version wrote, kept in the tree so that every later version has to read it.

``python -m tests.support.golden_repository`` writes a new one, named after this version of etcdguard. What is
there is never written again: a format that changes gets a new golden repository beside the old ones.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etcdguard import __version__
from etcdguard.crypto.recipients import generate_identity
from etcdguard.etcd.local import LocalCluster
from etcdguard.etcd.stream import TRAILER_BYTES
from tests.e2e.running import Installation
from tests.support.etcd_versions import EtcdPrograms, default_programs
from tests.support.etcdctl import Etcdctl

__all__ = ["GOLDEN", "Golden", "GoldenBackup", "golden_repositories"]

GOLDEN = Path(__file__).parents[1] / "golden" / "repository"

# A golden repository names no machine, so the program runs as on a host of this name.
_PROGRAM = """
import socket
socket.gethostname = lambda: "golden-node"
from etcdguard.cli.main import main
main()
"""


@dataclass(frozen=True)
class GoldenBackup:
    """What is known of one backup. ``kind`` says what is special about it; ``value`` is in its database.

    Revision and bytes are etcd's own tool's words about the snapshot (its size without the trailer).
    """

    id: str
    kind: str
    value: str
    revision: int
    db_bytes: int
    signed: bool = True
    held: bool = False
    verified_level: str | None = None


@dataclass(frozen=True)
class Golden:
    """One golden repository on disk."""

    folder: Path

    @property
    def repository(self) -> Path:
        """What a file repository's ``path`` is."""
        return self.folder / "repository"

    @property
    def public_key(self) -> Path:
        """Of the signer."""
        return self.folder / "test-only-signing.pub.pem"

    @property
    def passphrase_file(self) -> Path:
        """Opens the backup of kind ``passphrase``."""
        return self.folder / "test-only-passphrase.txt"

    def identity(self, number: int) -> Path:
        """The first or the second age identity; either opens a backup of both."""
        return self.folder / f"test-only-identity-{number}.txt"

    @property
    def facts(self) -> dict[str, Any]:
        """What was noted when it was written, from etcd's own tools where they know it."""
        facts: dict[str, Any] = json.loads((self.folder / "expected.json").read_text())
        return facts

    @property
    def backups(self) -> tuple[GoldenBackup, ...]:
        """Oldest first."""
        return tuple(GoldenBackup(**one) for one in self.facts["backups"])


def golden_repositories() -> list[Golden]:
    """Every one that is kept, by name."""
    return [Golden(path) for path in sorted(GOLDEN.iterdir()) if path.is_dir()]


class _Writer(Installation):
    """A node called golden-node."""

    def argv(self, *arguments: str | Path) -> list[str]:
        line = [*map(str, arguments), "--config", str(self.config_path)]
        return [sys.executable, "-c", _PROGRAM, *line]


class _Story:
    """Takes the backups, each in a way of its own."""

    def __init__(self, folder: Path, cluster: LocalCluster, programs: EtcdPrograms) -> None:
        self.here = _Writer(folder)
        self.here.connect(cluster)
        self.programs = programs
        self._etcdctl = Etcdctl(programs.etcdctl, cluster)
        self.passphrase_file = folder / "passphrase.txt"
        self.passphrase_file.write_text("golden horses graze in the test suite only\n")
        self.passphrase_file.chmod(0o600)
        self.second_identity = folder / "identity-2.txt"
        second = generate_identity()
        self.second_identity.write_text(second.secret_text() + "\n")
        self.second_identity.chmod(0o600)
        recipients = self.here.settings["encryption"]["recipients"]
        self.here.settings["encryption"]["recipients"] = [*recipients, str(second.recipient)]
        self.here.settings["signing"]["key_file"] = str(folder / "signing.key.pem")

    def told(self) -> list[GoldenBackup]:
        """All of it, in order; what etcdguard removed is not in the answer."""
        one = self._backup("recipients")
        self.here.run("verify", "latest", "--level", "data")
        self._backup("pruned")
        slot = self._backup("slot", "--if-due")
        programs = str(self.programs.folder)
        self.here.run("verify", slot.id, "--level", "drill", "--etcd", programs)
        settings = self.here.settings
        encryption = {"passphrase_file": str(self.passphrase_file)}
        with self.here.configured(settings | {"encryption": encryption}):
            passphrase = self._backup("passphrase")
            self.here.run("verify", passphrase.id, "--level", "data")
        with self.here.configured(settings | {"encryption": {"disabled": True}}):
            plain = self._backup("not encrypted")
        self.here.run("hold", "add", one.id, "--reason", "the first golden one")
        self.here.run("hold", "add", plain.id, "--reason", "for a while")
        self.here.run("hold", "remove", plain.id, "--reason", "no longer")
        signing = {"trusted_signers": settings["signing"]["trusted_signers"]}
        with self.here.configured(settings | {"signing": signing}):
            unsigned = self._backup("unsigned")
        with self.here.configured(settings | {"retention": {"keep_last": 3, "max_fraction": 0.5}}):
            gone = self.here.json("prune", "--confirm")["remove"]
        assert len(gone) == 1, gone
        return [
            GoldenBackup(**asdict(one) | {"held": True, "verified_level": "data"}),
            GoldenBackup(**asdict(slot) | {"verified_level": "drill"}),
            GoldenBackup(**asdict(passphrase) | {"verified_level": "data"}),
            plain,
            GoldenBackup(**asdict(unsigned) | {"signed": False}),
        ]

    def _backup(self, kind: str, *flags: str) -> GoldenBackup:
        value = f"golden value of {kind}"
        self._etcdctl.run("put", "/registry/golden", value)
        self.here.save()
        document = self.here.json("backup", "-q", *flags)
        assert document["outcome"] == "created", document
        backup_id = document["backup"]["id"]
        revision, db_bytes = self._facts(backup_id)
        return GoldenBackup(backup_id, kind, value, revision, db_bytes)

    def _facts(self, backup_id: str) -> tuple[int, int]:
        snapshot = self.here.folder / f"{backup_id}.db"
        self.here.run("download", backup_id, "-o", snapshot, "--allow-unsigned")
        done = subprocess.run(
            [str(self.programs.restore.path), "snapshot", "status", str(snapshot), "-w", "json"],
            env={"ETCDCTL_API": "3"},
            capture_output=True,
            check=True,
        )
        return json.loads(done.stdout)["revision"], snapshot.stat().st_size - TRAILER_BYTES


def main() -> None:
    """Write one for this version; refused where there is one."""
    target = GOLDEN / __version__
    if target.exists():
        sys.exit(
            f"error: {target} is there, and a golden repository is never written again\n"
            "hint: raise the version, or give the new one a folder of its own"
        )
    programs = default_programs()
    with tempfile.TemporaryDirectory(prefix="etcdguard-golden-") as name:
        base = Path(name)
        with LocalCluster(programs.etcd, base / "cluster", unsafe_no_fsync=True) as cluster:
            story = _Story(base / "here", cluster, programs)
            backups = story.told()
        target.mkdir(parents=True)
        golden = Golden(target)
        shutil.copytree(story.here.repository, golden.repository)
        shutil.copy(story.here.public_key, golden.public_key)
        shutil.copy(story.passphrase_file, golden.passphrase_file)
        shutil.copy(story.here.identity_file, golden.identity(1))
        shutil.copy(story.second_identity, golden.identity(2))
    facts = {
        "etcd_line": programs.version.rpartition(".")[0],
        "members": list(cluster.names),
        "backups": [asdict(one) for one in backups],
    }
    (target / "expected.json").write_text(json.dumps(facts, indent=2) + "\n")
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
