"""Nothing plaintext leaves the process, and no secret is ever printed.

A random canary goes into etcd as keys and as values. Where encryption is disabled the same search must find
it, so that a search that cannot find anything does not pass for a proof.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import zstandard

from etcdguard.crypto.recipients import generate_identity
from etcdguard.etcd.local import LocalCluster
from tests.e2e.gate import gate
from tests.e2e.running import Installation, credentials, downloads, files_below, s3_repository
from tests.support.etcd_versions import EtcdPrograms
from tests.support.etcdctl import Credentials, enable_auth
from tests.support.fixtures_etcd import ClusterFactory
from tests.support.load import connect
from tests.support.s3_servers import S3Server, make_bucket

_VALUES = 240
_VALUE_BYTES = 100_000
_HELD_AT = 18_000_000
"""Three quarters of the data: more than all buffers up to the spool hold, those of zstd's thread too."""
_SPOOLED_BYTES = 100_000
"""Of those, what must have come to the spool by then."""
_LOUD = ("-v", "-v", "--debug", "--log-format", "json")


class Canary:
    """Something that is nowhere else in the world, and the search for it."""

    def __init__(self) -> None:
        self.key = f"canary-key-{secrets.token_hex(16)}"
        self.value = f"canary-value-{secrets.token_hex(16)}"
        self._forms = [form for text in (self.key, self.value) for form in _forms(text.encode())]

    def put_into(self, cluster: LocalCluster) -> None:
        """All over the database, amid data that does not shrink much."""
        with connect(cluster) as client:
            for number in range(_VALUES):
                padding = secrets.token_hex((_VALUE_BYTES - len(self.value)) // 2)
                client.put(f"{self.key}/{number:05d}", self.value + padding)

    def is_in(self, data: bytes) -> bool:
        """In clear, in hexadecimal, in base64, or compressed, also when the data breaks off."""
        return any(form in candidate for candidate in (data, _decompressed(data)) for form in self._forms)


def _forms(text: bytes) -> Iterator[bytes]:
    yield text
    yield text.hex().encode()
    for shift in range(3):  # base64 of the same bytes depends on where they stand
        encoded = base64.b64encode(bytes(shift) + text)
        yield encoded[4:-4]


def _decompressed(data: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError:
        return b""


class Watch:
    """What stood in some folders at any moment: ``found`` are the files in which the canary was seen."""

    def __init__(self, canary: Canary, folders: Sequence[Path]) -> None:
        self.found: set[Path] = set()
        self.seen: set[Path] = set()
        self._canary = canary
        self._folders = folders
        self._known: dict[Path, tuple[int, int]] = {}

    def look(self) -> None:
        """Search every file that has changed since the last time."""
        for folder in self._folders:
            for path in files_below(folder):
                try:
                    facts = path.stat()
                    state = (facts.st_size, facts.st_mtime_ns)
                    content = path.read_bytes() if self._known.get(path) != state else b""
                except FileNotFoundError:
                    continue
                self._known[path] = state
                self.seen.add(path)
                if self._canary.is_in(content):
                    self.found.add(path)


@contextmanager
def _watching(watch: Watch) -> Iterator[None]:
    """``look`` again and again while the block runs, and once after it."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(0.05):
            watch.look()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        watch.look()


def _open_files(pid: int) -> dict[str, bytes]:
    """Every regular file the process holds open, deleted ones too, by its name."""
    contents = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if link.is_file():
                contents[str(link.readlink())] = link.read_bytes()
    return contents


@pytest.fixture
def canary_cluster(cluster_factory: ClusterFactory) -> tuple[Canary, LocalCluster]:
    cluster = cluster_factory(names=("alone",))
    canary = Canary()
    canary.put_into(cluster)
    return canary, cluster


@pytest.mark.parametrize("place", ["file", "s3"])
@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "in-clear"])
def test_plaintext_goes_nowhere(
    tmp_path: Path,
    canary_cluster: tuple[Canary, LocalCluster],
    seaweedfs_server: S3Server,
    place: str,
    encrypted: bool,
) -> None:
    canary, cluster = canary_cluster
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    here = Installation.of(
        tmp_path / "here", cluster, variables={"TMPDIR": str(temporary), **credentials(seaweedfs_server)}
    )
    bucket = make_bucket(seaweedfs_server)
    if place == "s3":
        here.settings["repositories"] = [s3_repository(seaweedfs_server, bucket)]
    if not encrypted:
        here.settings["encryption"] = {"disabled": True}
    here.save()
    watch = Watch(canary, [here.folder, temporary])
    output = ""

    # The backup, and what stands around in the middle of it.
    with _watching(watch), gate(cluster, limit=_HELD_AT) as held:
        (endpoint,) = held.endpoints.values()
        process = here.start("backup", "--endpoints", endpoint, *_LOUD)
        held.wait_until_holding()
        half_way = _half_way(process.pid)
        held.open()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    output += out + err
    (backup_id,) = here.ids()
    assert [name for name, content in half_way.items() if canary.is_in(content)] == (
        [] if encrypted else [name for name in half_way if name.endswith("/snapshot.bin")]
    )

    # The repository, by other means than ours.
    if place == "s3":
        stored = downloads(seaweedfs_server, bucket)
    else:
        stored = {str(path): path.read_bytes() for path in files_below(here.repository)}
    assert any(backup_id in name for name in stored)
    leaky = [name for name, content in stored.items() if canary.is_in(content)]
    if encrypted:
        assert leaky == []
    else:
        (name,) = leaky
        assert name.endswith("/snapshot.db.zst")
        assert canary.value.encode() in _zstd_command(stored[name])

    # The spool that stays, because nobody takes the backup.
    if place == "s3":
        here.settings["repositories"][0]["s3"]["bucket"] += "-missing"
        here.save()
    else:
        here.repository.rename(here.folder / "unmounted")
    with _watching(watch):
        done = here.run("backup", *_LOUD, code=10)
    output += done.out + done.err
    left = [path for path in files_below(here.spool) if path.name == "snapshot.bin"]
    assert len(left) == 1
    assert canary.is_in(left[0].read_bytes()) is not encrypted

    # Reading, whose one plain file is the one asked for.
    if place == "s3":
        here.settings["repositories"][0]["s3"]["bucket"] = bucket
        here.save()
    else:
        (here.folder / "unmounted").rename(here.repository)
    target = tmp_path / "target"
    target.mkdir()
    with _watching(watch):
        for command in (
            ("verify", backup_id),
            ("list",),
            ("show", backup_id),
            ("download", backup_id, "-o", target / "snapshot.db"),
        ):
            done = here.run(*command, *_LOUD)
            output += done.out + done.err
    assert canary.is_in((target / "snapshot.db").read_bytes())

    assert "backup.spooled" in output
    assert not canary.is_in(output.encode())
    if encrypted:
        assert watch.found == set()
    else:
        assert {path.name for path in watch.found} >= {"snapshot.bin"}
    assert any(path.name == "snapshot.bin" for path in watch.seen)
    assert list(temporary.iterdir()) == []


def _half_way(pid: int) -> dict[str, bytes]:
    """The files it holds open once it has written all of the snapshot that it was given."""
    before: dict[str, bytes] = {}
    for _ in range(200):
        threading.Event().wait(0.3)
        files = _open_files(pid)
        spooled = sum(len(content) for name, content in files.items() if name.endswith("/snapshot.bin"))
        if files == before and spooled > _SPOOLED_BYTES:
            return files
        before = files
    raise AssertionError("too little of it came to the spool")


def _zstd_command(data: bytes) -> bytes:
    zstd = shutil.which("zstd")
    assert zstd is not None
    return subprocess.run([zstd, "-d", "-c"], input=data, capture_output=True, check=True).stdout


# -- secrets ---------------------------------------------------------------------------------------------


def test_no_secret_is_ever_printed(
    tmp_path: Path, etcd_binaries: EtcdPrograms, cluster_factory: ClusterFactory, seaweedfs_server: S3Server
) -> None:
    cluster = cluster_factory(names=("alone",))
    root = Credentials("root", f"password-{secrets.token_hex(12)}")
    enable_auth(etcd_binaries.etcdctl, cluster, root)
    wrong, passphrase = (f"{what}-{secrets.token_hex(12)}" for what in ("wrong", "passphrase"))
    here = Installation.of(tmp_path / "here", cluster, variables=credentials(seaweedfs_server))
    other = generate_identity()
    files = {
        "password": root.password,
        "passphrase": passphrase,
        "other-passphrase": wrong,
        "other-identity": other.secret_text(),
        "torn-identity": here.identity_file.read_text().splitlines()[-1][:-3] + "\n",
    }
    for name, content in files.items():
        (here.folder / name).touch(mode=0o600)
        (here.folder / name).write_text(content + "\n")
    here.settings["cluster"] |= {"user": root.user, "password_file": "password"}
    here.settings["repositories"].append(s3_repository(seaweedfs_server, make_bucket(seaweedfs_server)))
    here.save()
    runs = [
        (0, ("config", "validate")),
        (0, ("config", "show", "-o", "yaml")),
        (0, ("backup",)),
        (0, ("verify",)),
        (12, ("verify", "--identity", here.folder / "other-identity")),
        (64, ("verify", "--identity", here.folder / "torn-identity")),
        (64, ("verify", "--identity", here.folder / "password")),
        (64, ("backup", "--user", f"{root.user}:{root.password}")),
        (0, ("show", "latest", "-o", "json")),
    ]
    output = "".join(_output(here, code, *command) for code, command in runs)
    output += _output(here, 2, "backup", ETCDGUARD_PASSWORD=wrong)
    output += _output(here, 0, "backup", ETCDGUARD_PASSWORD=root.password)
    output += _output(here, 0, "config", "show", ETCDGUARD_USER=f"{root.user}:{root.password}")
    output += _output(here, 3, "backup", AWS_SECRET_ACCESS_KEY=wrong)
    encryption = here.settings["encryption"]
    here.settings["encryption"] = {"passphrase_file": "passphrase"}
    here.save()
    output += _output(here, 0, "backup") + _output(here, 0, "verify")
    here.settings["encryption"] = {"passphrase_file": "other-passphrase"}
    here.save()
    output += _output(here, 12, "verify")
    here.settings["encryption"] = {**encryption, "recipients": [here.identity_file.read_text().split()[-1]]}
    here.save()
    output += _output(here, 64, "backup")

    hidden = {
        "password": root.password,
        "wrong password": wrong,
        "passphrase": passphrase,
        "identity": here.identity_file.read_text().split()[-1],
        "other identity": other.secret_text(),
        "signing key": (here.folder / "signing.key.pem").read_text().splitlines()[1],
        "S3 secret": seaweedfs_server.secret_key,
    }
    assert all(len(secret) > 15 for secret in hidden.values())
    assert [what for what, secret in hidden.items() if secret in output or secret[:-3] in output] == []
    assert root.user in output


def _output(here: Installation, code: int, *command: str | Path, **variables: str) -> str:
    done = here.run(*command, *_LOUD, code=code, **variables)
    return done.out + done.err
