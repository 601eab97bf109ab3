"""Files made here open with the `age` command, and the other way round."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from etcdguard.crypto.recipients import generate_identity, parse_recipient, read_identities_file
from tests.support.age_files import decrypt, encrypt
from tests.support.commands import command_path

_CHUNK = 64 * 1024
_every_size = pytest.mark.parametrize("size", [0, 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK, 5_000_000])


def _plaintext(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _run(program: str, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [command_path(program), *args], input=stdin, capture_output=True, check=False, timeout=60
    )


def _output(program: str, *args: str, stdin: bytes = b"") -> bytes:
    done = _run(program, *args, stdin=stdin)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@_every_size
def test_age_opens_ours(tmp_path: Path, size: int) -> None:
    identities = [generate_identity(), generate_identity()]
    file = encrypt(_plaintext(size), [identity.recipient for identity in identities])
    for identity in identities:
        key_file = tmp_path / "identity"
        key_file.write_text(identity.secret_text() + "\n")
        assert _output("age-keygen", "-y", str(key_file)).decode().strip() == str(identity.recipient)
        assert _output("age", "--decrypt", "--identity", str(key_file), stdin=file) == _plaintext(size)


@_every_size
@pytest.mark.parametrize("options", [[], ["--armor"]])
def test_we_open_ages(tmp_path: Path, size: int, options: list[str]) -> None:
    key_file = tmp_path / "identity"
    _output("age-keygen", "-o", str(key_file))
    identities = read_identities_file(key_file)
    public = _output("age-keygen", "-y", str(key_file)).decode().strip()
    assert [identity.recipient for identity in identities] == [parse_recipient(public)]
    other = str(generate_identity().recipient)
    file = _output("age", "--encrypt", *options, "-r", other, "-r", public, stdin=_plaintext(size))
    assert decrypt(file, identities) == _plaintext(size)


def test_age_refuses_ours_when_it_was_cut_short(tmp_path: Path) -> None:
    identity = generate_identity()
    key_file = tmp_path / "identity"
    key_file.write_text(identity.secret_text() + "\n")
    file = encrypt(_plaintext(2 * _CHUNK), [identity.recipient])
    assert _run("age", "--decrypt", "--identity", str(key_file), stdin=file[:-1]).returncode != 0
    assert _run("age", "--decrypt", "--identity", str(key_file), stdin=file[: -_CHUNK - 16]).returncode != 0
